package libvirtlab

import (
	"strings"
	"testing"
)

// A lab that cannot be set up is not waited for.
func TestStartEnded(t *testing.T) {
	_, end, err := Start("/nonexistent/lab")
	defer end()
	if err == nil || !strings.Contains(err.Error(), "the lab has ended") {
		t.Errorf("Start = %v", err)
	}
}
