package kubevirt

import (
	"slices"
	"strings"
	"testing"
)

// someNights are CronJobs with all that there is, and with no more than there must be.
func someNights() []Night {
	least := Night{Name: "bake-nightly", Image: "r.example/bake:1", Schedule: "0 3 * * *", Shards: 3, Place: "s3://fleet/machines",
		ConfigClaim: "config", Credentials: "bucket", KeySecret: "signing", CPU: "2", Memory: "6Gi", StorageLimit: "60Gi"}
	most := least
	most.Name, most.Namespace, most.CacheClaim, most.PullSecret, most.KVM, most.PlainHTTP, most.WithSecrets, most.Shards = "n", "machines", "cache", "pull", "devices.kubevirt.io/kvm", true, true, 1000
	return []Night{least, most}
}

func TestNight(t *testing.T) {
	for _, n := range someNights() {
		if err := n.Check(1000); err != nil {
			t.Error(err)
		}
		text, err := n.Export()
		if err != nil {
			t.Fatal(err)
		}
		all := documents(t, text)
		job := at(all[0], "spec", "jobTemplate", "spec")
		pod := at(job, "template", "spec")
		if len(all) != 1 || at(job, "completions") != n.Shards || at(job, "completionMode") != "Indexed" || at(all[0], "spec", "concurrencyPolicy") != "Forbid" {
			t.Errorf("%+v becomes\n%s", n, text)
		}
		args, _ := at(pod, "containers", 0, "args").([]any)
		if !slices.Contains(args, any(n.Place)) || slices.Contains(args, any("--plain-http")) != n.PlainHTTP || slices.Contains(args, any("--with-secrets")) != n.WithSecrets {
			t.Errorf("the pods do %q", args)
		}
		if at(pod, "automountServiceAccountToken") != false || at(pod, "restartPolicy") != "Never" || at(pod, "containers", 0, "securityContext", "runAsNonRoot") != true {
			t.Errorf("a pod may do more than it must:\n%s", text)
		}
		if (at(pod, "volumes", 1, "persistentVolumeClaim", "claimName") == "cache") != (n.CacheClaim != "") {
			t.Errorf("the cache is on %v", at(pod, "volumes", 1))
		}
	}
	for option, spoil := range map[string]func(*Night){
		"--name":         func(n *Night) { n.Name = strings.Repeat("x", 53) },
		"--image":        func(n *Night) { n.Image = "" },
		"--at":           func(n *Night) { n.Schedule = "03:00" },
		"--shards":       func(n *Night) { n.Shards = 0 },
		"--config-claim": func(n *Night) { n.ConfigClaim = "a\nb" },
		"--key-secret":   func(n *Night) { n.KeySecret = "" },
		"--kvm":          func(n *Night) { n.KVM = "kvm" },
		"--memory":       func(n *Night) { n.Memory = "lots" },
	} {
		n := someNights()[0]
		spoil(&n)
		if err := n.Check(1000); err == nil || !strings.Contains(err.Error(), option) {
			t.Errorf("%s: %v", option, err)
		}
	}
}
