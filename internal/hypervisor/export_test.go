package hypervisor

// What the tests of what uses this package need, too.
var (
	DaemonForTest    = daemon
	OwnDaemonForTest = ownDaemon
	DaemonsForTest   = daemonsOf
)
