package claim

import (
	"fmt"
	"strings"
)

// BootLayer is the name under which claims stand that are made for every
// machine.
const BootLayer = "boot"

const claimInit = "cloud-init finished without an error, not even one it recovered from."

// statusFile is cloud-init's own account of the boot on which it last ran. It
// outlives reboots, unlike what "cloud-init status" prints.
const statusFile = "/var/lib/cloud/data/status.json"

// Boot are the claims made for every machine that can be asked.
func Boot() []Check {
	return []Check{
		{Layer: BootLayer, Claim: claimInit,
			// The matcher is judgeCloudInit.
			Inside: &Inside{Run: "cat " + statusFile, Parallel: true},
			Falsify: fmt.Sprintf(`sed -i 's/"errors": \[\]/"errors": ["falsified"]/' %[1]s && grep -q falsified %[1]s`,
				statusFile)},
		{Layer: BootLayer, Claim: "No systemd unit has failed and no ordering cycle was broken.",
			Inside: &Inside{Is: new(string), Parallel: true,
				Run: `systemctl --failed --plain --no-legend; journalctl -b -o cat _PID=1 | grep -F "ordering cycle" || :`},
			Falsify: "! systemd-run --quiet --wait --unit=bake-falsify false"},
	}
}

// LayersFile is written by cloud-init after all files of the layers: a list of
// what was baked, in the form of Applied.
const LayersFile = "/var/lib/bake/layers"

// Applied is the claim that cloud-init went through all layers, whose names and
// digests are given in order. What it makes of a file that it cannot read or an
// owner that it does not know is silence; the list comes after them.
func Applied(names, digests []string) (list string, check Check) {
	var lines strings.Builder
	for i, name := range names {
		fmt.Fprintf(&lines, "%s %s\n", name, digests[i])
	}
	list = lines.String()
	return list, Check{Layer: BootLayer, Claim: "Every layer has been applied, in the form in which it was baked.",
		Inside: &Inside{Run: "cat " + LayersFile, Is: &list, Parallel: true}, Falsify: "sed -i 1d " + LayersFile}
}
