package kubevirt

// The few fields of Kubernetes, KubeVirt and CDI that an export has, in the order of their
// own documentation. Fields of structs are written in the order in which they stand here;
// what is absent in the export is absent in the YAML.

type object struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   metadata          `yaml:"metadata"`
	Type       string            `yaml:"type,omitempty"`       // of a Secret
	Immutable  bool              `yaml:"immutable,omitempty"`  // of a Secret or ConfigMap
	Data       map[string]string `yaml:"data,omitempty"`       // of a Secret, base64
	BinaryData map[string]string `yaml:"binaryData,omitempty"` // of a ConfigMap, base64
	Spec       any               `yaml:"spec,omitempty"`
}

type metadata struct {
	Name        string            `yaml:"name,omitempty"`
	Namespace   string            `yaml:"namespace,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

type claimSpec struct { // of a PersistentVolumeClaim
	AccessModes      []string  `yaml:"accessModes"`
	Resources        resources `yaml:"resources"`
	StorageClassName string    `yaml:"storageClassName,omitempty"`
}

type resources struct {
	Requests map[string]string `yaml:"requests"`
}

type dataVolumeSpec struct {
	Source  dataSource  `yaml:"source"`
	Storage dataStorage `yaml:"storage"`
}

type dataSource struct {
	HTTP     *httpSource     `yaml:"http,omitempty"`
	Registry *registrySource `yaml:"registry,omitempty"`
}

type httpSource struct {
	URL      string `yaml:"url"`
	Checksum string `yaml:"checksum"`
}

type registrySource struct {
	URL       string `yaml:"url"`
	SecretRef string `yaml:"secretRef,omitempty"`
}

type dataStorage struct {
	Resources        resources `yaml:"resources"`
	StorageClassName string    `yaml:"storageClassName,omitempty"`
}

type policySpec struct { // of a NetworkPolicy
	PodSelector selector  `yaml:"podSelector"`
	PolicyTypes []string  `yaml:"policyTypes"`
	Ingress     []ingress `yaml:"ingress,omitempty"`
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type ingress struct {
	Ports []policyPort `yaml:"ports"`
}

type policyPort struct {
	Protocol string `yaml:"protocol"`
	Port     int    `yaml:"port"`
}

type machineSpec struct { // of a VirtualMachine
	RunStrategy string   `yaml:"runStrategy"`
	Template    template `yaml:"template"`
}

type template struct {
	Metadata metadata     `yaml:"metadata"`
	Spec     instanceSpec `yaml:"spec"`
}

type instanceSpec struct {
	Architecture                  string     `yaml:"architecture"`
	Hostname                      string     `yaml:"hostname"`
	Domain                        domainSpec `yaml:"domain"`
	EvictionStrategy              string     `yaml:"evictionStrategy"`
	TerminationGracePeriodSeconds int        `yaml:"terminationGracePeriodSeconds"`
	ReadinessProbe                *probe     `yaml:"readinessProbe,omitempty"`
	Networks                      []network  `yaml:"networks"`
	Volumes                       []volume   `yaml:"volumes"`
}

type domainSpec struct {
	CPU      cpu      `yaml:"cpu"`
	Memory   memory   `yaml:"memory"`
	Machine  named    `yaml:"machine"`
	Firmware firmware `yaml:"firmware"`
	Clock    clock    `yaml:"clock"`
	Features features `yaml:"features"`
	Devices  devices  `yaml:"devices"`
}

type cpu struct {
	Cores   int    `yaml:"cores"`
	Sockets int    `yaml:"sockets"`
	Threads int    `yaml:"threads"`
	Model   string `yaml:"model"`
}

type memory struct {
	Guest     string     `yaml:"guest"`
	Hugepages *hugepages `yaml:"hugepages,omitempty"`
}

type hugepages struct {
	PageSize string `yaml:"pageSize"`
}

type named struct {
	Type string `yaml:"type"`
}

type firmware struct {
	UUID       string     `yaml:"uuid"`
	Bootloader bootloader `yaml:"bootloader"`
}

type bootloader struct {
	EFI efi `yaml:"efi"`
}

type efi struct {
	SecureBoot bool `yaml:"secureBoot"` // always written: KubeVirt takes true for the default
}

type empty struct{}

type clock struct {
	UTC   empty  `yaml:"utc"`
	Timer *timer `yaml:"timer,omitempty"`
}

type timer struct {
	HPET timerOf `yaml:"hpet"`
	PIT  timerOf `yaml:"pit"`
	RTC  timerOf `yaml:"rtc"`
}

type timerOf struct {
	Present    *bool  `yaml:"present,omitempty"`
	TickPolicy string `yaml:"tickPolicy,omitempty"`
}

type features struct {
	ACPI empty   `yaml:"acpi"`
	SMM  *toggle `yaml:"smm,omitempty"`
}

type toggle struct {
	Enabled bool `yaml:"enabled"`
}

type devices struct {
	DisableHotplug           bool      `yaml:"disableHotplug"`
	Disks                    []disk    `yaml:"disks"`
	Watchdog                 *watchdog `yaml:"watchdog,omitempty"`
	Interfaces               []card    `yaml:"interfaces"`
	AutoattachGraphicsDevice bool      `yaml:"autoattachGraphicsDevice"`
	AutoattachSerialConsole  bool      `yaml:"autoattachSerialConsole"`
	LogSerialConsole         bool      `yaml:"logSerialConsole"`
	AutoattachMemBalloon     bool      `yaml:"autoattachMemBalloon"`
	AutoattachVSOCK          bool      `yaml:"autoattachVSOCK"`
	RNG                      empty     `yaml:"rng"`
	TPM                      *tpm      `yaml:"tpm,omitempty"`
}

type disk struct {
	Name      string     `yaml:"name"`
	Disk      diskTarget `yaml:"disk"`
	BootOrder int        `yaml:"bootOrder,omitempty"`
	Serial    string     `yaml:"serial"`
}

type diskTarget struct {
	Bus      string `yaml:"bus"`
	ReadOnly bool   `yaml:"readonly,omitempty"`
}

type watchdog struct {
	Name     string   `yaml:"name"`
	I6300ESB i6300esb `yaml:"i6300esb"`
}

type i6300esb struct {
	Action string `yaml:"action"`
}

type card struct {
	Name       string     `yaml:"name"`
	Model      string     `yaml:"model"`
	Masquerade *empty     `yaml:"masquerade,omitempty"`
	Bridge     *empty     `yaml:"bridge,omitempty"`
	Ports      []cardPort `yaml:"ports,omitempty"`
	MACAddress string     `yaml:"macAddress"`
}

type cardPort struct {
	Protocol string `yaml:"protocol"`
	Port     int    `yaml:"port"`
}

type tpm struct {
	Persistent bool `yaml:"persistent"`
}

type network struct {
	Name   string  `yaml:"name"`
	Pod    *empty  `yaml:"pod,omitempty"`
	Multus *multus `yaml:"multus,omitempty"`
}

type multus struct {
	NetworkName string `yaml:"networkName"`
}

type volume struct {
	Name                  string           `yaml:"name"`
	ContainerDisk         *containerDisk   `yaml:"containerDisk,omitempty"`
	DataVolume            *reference       `yaml:"dataVolume,omitempty"`
	PersistentVolumeClaim *claimReference  `yaml:"persistentVolumeClaim,omitempty"`
	Secret                *secretReference `yaml:"secret,omitempty"`
	ConfigMap             *configReference `yaml:"configMap,omitempty"`
}

type containerDisk struct {
	Image           string `yaml:"image"`
	ImagePullSecret string `yaml:"imagePullSecret,omitempty"`
	Path            string `yaml:"path,omitempty"`
}

type reference struct {
	Name string `yaml:"name"`
}

type claimReference struct {
	ClaimName string `yaml:"claimName"`
}

type secretReference struct {
	SecretName  string `yaml:"secretName"`
	VolumeLabel string `yaml:"volumeLabel"`
}

type configReference struct {
	Name        string `yaml:"name"`
	VolumeLabel string `yaml:"volumeLabel"`
}

type probe struct {
	TCPSocket           tcpSocket `yaml:"tcpSocket"`
	InitialDelaySeconds int       `yaml:"initialDelaySeconds"`
	PeriodSeconds       int       `yaml:"periodSeconds"`
	TimeoutSeconds      int       `yaml:"timeoutSeconds"`
	FailureThreshold    int       `yaml:"failureThreshold"`
}

type tcpSocket struct {
	Port int `yaml:"port"`
}
