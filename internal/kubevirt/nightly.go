package kubevirt

import (
	"errors"
	"fmt"

	"bake/internal/lazy"
)

// A Night is what the CronJob of bake nightly needs to know.
type Night struct {
	Name         string // of the CronJob
	Namespace    string // "" for the one that kubectl is set to
	Image        string // of bake, as make image makes it
	Schedule     string // of cron, in UTC
	Shards       int
	Place        string // s3://BUCKET/PREFIX
	ConfigClaim  string // PersistentVolumeClaim with hosts/ and layers/, read only
	CacheClaim   string // with a directory for each shard; "" for one that is empty each time
	Credentials  string // Secret with AWS_ variables
	KeySecret    string // Secret with signing.key
	PullSecret   string
	KVM          string // resource by which a pod gets /dev/kvm; "" for none, and machines are emulated
	CPU, Memory  string // requests of a pod, as quantities
	PlainHTTP    bool
	WithSecrets  bool
	StorageLimit string // of an empty cache, as a quantity
}

const (
	configDir = "/config"
	workDir   = "/work"
	keyDir    = "/key"
	secretDir = "/secret"

	// nightRetries are for pods that were killed, or that the network was to blame for; a night
	// itself stops after three tries of a host.
	nightRetries = 6
	bakeUser     = 65532
)

var (
	cronForm = lazy.Regexp(`^[0-9*/,A-Za-z-]+( [0-9*/,A-Za-z-]+){4}$`)
	quantity = lazy.Regexp(`^[1-9][0-9]{0,9}(m|Ki|Mi|Gi|Ti)?$`)
	resource = lazy.Regexp(`^[a-z0-9.-]{1,253}/[A-Za-z0-9._-]{1,63}$`)
)

// Check says what is wrong with options that a person has given, with the option's name.
func (n Night) Check(maxShards int) error {
	for _, c := range []struct {
		option, value string
		form          lazy.Regexp
		want          string
		must          bool
	}{
		{"name", n.Name, dnsLabel, "at most 63 of a-z, 0-9 and -", true},
		{"namespace", n.Namespace, dnsLabel, "at most 63 of a-z, 0-9 and -", false},
		{"image", n.Image, imageForm, "the image that make image makes, REGISTRY/REPOSITORY@sha256:DIGEST or :TAG", true},
		{"at", n.Schedule, cronForm, "five fields of cron: \"0 3 * * *\" is three in the morning, UTC", true},
		{"config-claim", n.ConfigClaim, dnsName, "the PersistentVolumeClaim that has hosts/", true},
		{"cache-claim", n.CacheClaim, dnsName, "the name of a PersistentVolumeClaim", false},
		{"credentials", n.Credentials, dnsName, "the Secret that has AWS_ACCESS_KEY_ID and the like", true},
		{"key-secret", n.KeySecret, dnsName, "the Secret that has signing.key", true},
		{"pull-secret", n.PullSecret, dnsName, "the name of a Secret", false},
		{"kvm", n.KVM, resource, "a resource such as devices.kubevirt.io/kvm", false},
		{"cpu", n.CPU, quantity, "a quantity such as 2", true},
		{"memory", n.Memory, quantity, "a quantity such as 6Gi", true},
		{"storage", n.StorageLimit, quantity, "a quantity such as 60Gi", true},
	} {
		if (c.value != "" || c.must) && !c.form.MatchString(c.value) {
			return fmt.Errorf("--%s %q: want %s", c.option, c.value, c.want)
		}
	}
	switch {
	case len(n.Name) > 52: // the controller adds the minute
		return errors.New("--name: the name of a CronJob has at most 52 characters")
	case n.Shards < 1 || n.Shards > maxShards:
		return fmt.Errorf("--shards %d: want 1 to %d", n.Shards, maxShards)
	}
	return nil
}

// Export writes the CronJob. Its pods have no token of the cluster: what they must know of
// each other is in the bucket.
func (n Night) Export() ([]byte, error) {
	labels := map[string]string{labelManaged: "bake", labelInstance: n.Name}
	about := metadata{Name: n.Name, Namespace: n.Namespace, Labels: labels}
	pod := n.pod()
	job := jobSpec{CompletionMode: "Indexed", Completions: n.Shards, Parallelism: n.Shards, BackoffLimitPerIndex: nightRetries, MaxFailedIndexes: n.Shards,
		// What another try would not change: a wrong command line or host file, no permission, a
		// signature, a failed claim.
		PodFailurePolicy: failurePolicy{[]failureRule{{Action: "FailIndex", OnExitCodes: exitCodes{Operator: "In", Values: []int{2, 3, 4, 5, 7}}}}},
		Template:         podTemplate{Metadata: metadata{Labels: labels}, Spec: pod}}
	return encode([]object{{APIVersion: "batch/v1", Kind: "CronJob", Metadata: about, Spec: cronSpec{
		Schedule: n.Schedule, TimeZone: "Etc/UTC", ConcurrencyPolicy: "Forbid", StartingDeadlineSeconds: 3600,
		SuccessfulJobsHistoryLimit: 3, FailedJobsHistoryLimit: 7, JobTemplate: jobTemplate{Metadata: metadata{Labels: labels}, Spec: job}}}})
}

func (n Night) pod() podSpec {
	no, yes, user := false, true, bakeUser
	args := []string{"--config", configDir, "--out", workDir + "/$(JOB_COMPLETION_INDEX)/out", "nightly",
		"--shard", fmt.Sprint(n.Shards), "--to", n.Place}
	for _, flag := range []struct {
		is   bool
		name string
	}{{n.PlainHTTP, "--plain-http"}, {n.WithSecrets, "--with-secrets"}} {
		if flag.is {
			args = append(args, flag.name)
		}
	}
	work := podVolume{Name: "work", EmptyDir: &emptyDir{SizeLimit: n.StorageLimit}}
	if n.CacheClaim != "" {
		work = podVolume{Name: "work", PersistentVolumeClaim: &podClaim{ClaimName: n.CacheClaim}}
	}
	c := container{Name: "bake", Image: n.Image, Args: args,
		Env: []env{
			{Name: "JOB_COMPLETION_INDEX", ValueFrom: field("metadata.labels['batch.kubernetes.io/job-completion-index']")},
			{Name: "BAKE_NIGHT", ValueFrom: field("metadata.labels['batch.kubernetes.io/job-name']")},
			{Name: "HOSTNAME", ValueFrom: field("metadata.name")},
			{Name: "HOME", Value: workDir + "/$(JOB_COMPLETION_INDEX)"},
			{Name: "TMPDIR", Value: workDir},
			{Name: "BAKE_KEY", Value: keyDir + "/signing.key"},
		},
		EnvFrom:   []envFrom{{SecretRef: secretName{n.Credentials}}},
		Resources: podResources{Requests: map[string]string{"cpu": n.CPU, "memory": n.Memory}, Limits: map[string]string{"memory": n.Memory}},
		SecurityContext: &securityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes,
			Capabilities: capabilities{Drop: []string{"ALL"}}},
		VolumeMounts: []mount{{Name: "config", MountPath: configDir, ReadOnly: true}, {Name: "work", MountPath: workDir}, {Name: "key", MountPath: keyDir, ReadOnly: true}},
	}
	if n.KVM != "" {
		c.Resources.Limits[n.KVM] = "1"
	}
	// bake takes no key that others may have read, and a Secret's files are the group's.
	first := container{Name: "key", Image: n.Image, Command: []string{"install", "-m", "0400", secretDir + "/signing.key", keyDir + "/signing.key"},
		Resources: podResources{Requests: map[string]string{"cpu": "10m", "memory": "16Mi"}, Limits: map[string]string{"memory": "16Mi"}}, SecurityContext: c.SecurityContext,
		VolumeMounts: []mount{{Name: "secret", MountPath: secretDir, ReadOnly: true}, {Name: "key", MountPath: keyDir}}}
	p := podSpec{RestartPolicy: "Never", AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: 30,
		SecurityContext: podSecurity{RunAsUser: &user, RunAsGroup: &user, FSGroup: &user, RunAsNonRoot: &yes, SeccompProfile: named{"RuntimeDefault"}},
		InitContainers:  []container{first},
		Containers:      []container{c},
		Volumes: []podVolume{{Name: "config", PersistentVolumeClaim: &podClaim{ClaimName: n.ConfigClaim, ReadOnly: true}}, work,
			{Name: "key", EmptyDir: &emptyDir{Medium: "Memory", SizeLimit: "1Mi"}},
			{Name: "secret", Secret: &podSecret{SecretName: n.KeySecret, DefaultMode: 0o440}}}}
	if n.PullSecret != "" {
		p.ImagePullSecrets = []reference{{n.PullSecret}}
	}
	return p
}

func field(path string) *valueFrom { return &valueFrom{FieldRef: fieldRef{path}} }

type cronSpec struct {
	Schedule                   string      `yaml:"schedule"`
	TimeZone                   string      `yaml:"timeZone"`
	ConcurrencyPolicy          string      `yaml:"concurrencyPolicy"`
	StartingDeadlineSeconds    int         `yaml:"startingDeadlineSeconds"`
	SuccessfulJobsHistoryLimit int         `yaml:"successfulJobsHistoryLimit"`
	FailedJobsHistoryLimit     int         `yaml:"failedJobsHistoryLimit"`
	JobTemplate                jobTemplate `yaml:"jobTemplate"`
}

type jobTemplate struct {
	Metadata metadata `yaml:"metadata"`
	Spec     jobSpec  `yaml:"spec"`
}

type jobSpec struct {
	CompletionMode       string        `yaml:"completionMode"`
	Completions          int           `yaml:"completions"`
	Parallelism          int           `yaml:"parallelism"`
	BackoffLimitPerIndex int           `yaml:"backoffLimitPerIndex"`
	MaxFailedIndexes     int           `yaml:"maxFailedIndexes"`
	PodFailurePolicy     failurePolicy `yaml:"podFailurePolicy"`
	Template             podTemplate   `yaml:"template"`
}

type failurePolicy struct {
	Rules []failureRule `yaml:"rules"`
}

type failureRule struct {
	Action      string    `yaml:"action"`
	OnExitCodes exitCodes `yaml:"onExitCodes"`
}

type exitCodes struct {
	Operator string `yaml:"operator"`
	Values   []int  `yaml:"values"`
}

type podTemplate struct {
	Metadata metadata `yaml:"metadata"`
	Spec     podSpec  `yaml:"spec"`
}

type podSpec struct {
	RestartPolicy                 string      `yaml:"restartPolicy"`
	AutomountServiceAccountToken  *bool       `yaml:"automountServiceAccountToken"`
	TerminationGracePeriodSeconds int         `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               podSecurity `yaml:"securityContext"`
	ImagePullSecrets              []reference `yaml:"imagePullSecrets,omitempty"`
	InitContainers                []container `yaml:"initContainers"`
	Containers                    []container `yaml:"containers"`
	Volumes                       []podVolume `yaml:"volumes"`
}

type podSecurity struct {
	RunAsUser      *int  `yaml:"runAsUser"`
	RunAsGroup     *int  `yaml:"runAsGroup"`
	FSGroup        *int  `yaml:"fsGroup"`
	RunAsNonRoot   *bool `yaml:"runAsNonRoot"`
	SeccompProfile named `yaml:"seccompProfile"`
}

type container struct {
	Name            string           `yaml:"name"`
	Image           string           `yaml:"image"`
	Command         []string         `yaml:"command,omitempty"`
	Args            []string         `yaml:"args,omitempty"`
	Env             []env            `yaml:"env,omitempty"`
	EnvFrom         []envFrom        `yaml:"envFrom,omitempty"`
	Resources       podResources     `yaml:"resources"`
	SecurityContext *securityContext `yaml:"securityContext"`
	VolumeMounts    []mount          `yaml:"volumeMounts"`
}

type env struct {
	Name      string     `yaml:"name"`
	Value     string     `yaml:"value,omitempty"`
	ValueFrom *valueFrom `yaml:"valueFrom,omitempty"`
}

type valueFrom struct {
	FieldRef fieldRef `yaml:"fieldRef"`
}

type fieldRef struct {
	FieldPath string `yaml:"fieldPath"`
}

type envFrom struct {
	SecretRef secretName `yaml:"secretRef"`
}

type secretName struct {
	Name string `yaml:"name"`
}

type podResources struct {
	Requests map[string]string `yaml:"requests"`
	Limits   map[string]string `yaml:"limits"`
}

type securityContext struct {
	AllowPrivilegeEscalation *bool        `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   *bool        `yaml:"readOnlyRootFilesystem"`
	RunAsNonRoot             *bool        `yaml:"runAsNonRoot"`
	Capabilities             capabilities `yaml:"capabilities"`
}

type capabilities struct {
	Drop []string `yaml:"drop"`
}

type mount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
	ReadOnly  bool   `yaml:"readOnly,omitempty"`
}

type podVolume struct {
	Name                  string     `yaml:"name"`
	PersistentVolumeClaim *podClaim  `yaml:"persistentVolumeClaim,omitempty"`
	EmptyDir              *emptyDir  `yaml:"emptyDir,omitempty"`
	Secret                *podSecret `yaml:"secret,omitempty"`
}

type podClaim struct {
	ClaimName string `yaml:"claimName"`
	ReadOnly  bool   `yaml:"readOnly,omitempty"`
}

type emptyDir struct {
	Medium    string `yaml:"medium,omitempty"`
	SizeLimit string `yaml:"sizeLimit"`
}

type podSecret struct {
	SecretName  string `yaml:"secretName"`
	DefaultMode int    `yaml:"defaultMode"`
}
