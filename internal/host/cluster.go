package host

import (
	"fmt"
	"net/url"
	"strings"

	"bake/internal/lazy"
)

// clusterScheme is that of machines in a Kubernetes cluster with KubeVirt.
const clusterScheme = "kubevirt"

// A Cluster is where a machine runs that no libvirt runs:
//
//	kubevirt://NAMESPACE                  in the cluster that kubectl is set to
//	kubevirt://NAMESPACE?context=NAME     in that of a context of the kubeconfig
type Cluster struct {
	Namespace string
	Context   string // "" for the current one
}

var namespaceForm = lazy.Regexp(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// IsCluster says whether a URI is meant to name a cluster.
func IsCluster(uri string) bool { return strings.HasPrefix(uri, clusterScheme+":") }

// A clusterError says that what libvirt is asked to do is a cluster's.
type clusterError struct{ uri string }

func (e *clusterError) Error() string {
	return fmt.Sprintf("%q is a cluster and no libvirt: bake rollout brings generations there, and kubectl shows its machines", e.uri)
}

// Lack marks the error as none of the host file's.
func (e *clusterError) Lack() bool { return true }

// ParseCluster reads such a URI.
func ParseCluster(text string) (c Cluster, err error) {
	u, err := url.Parse(text)
	if err == nil && (u.Scheme != clusterScheme || u.Opaque != "" || u.User != nil || u.Fragment != "" || strings.Trim(u.Path, "/") != "" || !namespaceForm.MatchString(u.Host)) {
		err = fmt.Errorf("want kubevirt://NAMESPACE or kubevirt://NAMESPACE?context=NAME")
	}
	if err == nil {
		c.Namespace = u.Host
		var query url.Values
		if query, err = url.ParseQuery(u.RawQuery); err == nil {
			c.Context = query.Get("context")
			if u.RawQuery != "" && (len(query) != 1 || len(query["context"]) != 1 || c.Context == "") {
				err = fmt.Errorf("of parameters there is context, once")
			}
		}
	}
	if err != nil {
		return Cluster{}, fmt.Errorf("the cluster %q: %w", text, err)
	}
	return c, nil
}
