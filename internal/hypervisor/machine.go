package hypervisor

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"bake/internal/domain"
)

// Machine is a host's domain as libvirt has it.
type Machine struct {
	domain.Mark
	Running   bool
	Paused    bool
	Stuck     bool   // it is paused because QEMU could not write to one of its disks
	Saved     bool   // it is off, and its memory is in a file: its next start goes on from there
	Restored  bool   // it runs, and has gone on from such a file: its console does not show its boot
	Undefined bool   // it runs, and is gone when it does not
	Autostart bool   // it starts with its hypervisor
	XML       string // as defined
}

// Find returns the domain of a host, nil when there is none. The error is a
// *LackError when there is one of that name that is somebody else's, or the host's has
// another name.
func (h *Hypervisor) Find(host string) (*Machine, error) {
	d, err := h.virt.DomainLookupByName(host)
	if is(err, libvirt.ErrNoDomain) { // the name may have been changed
		d, err = h.virt.DomainLookupByUUID(libvirt.UUID(uuid.MustParse(domain.UUID(host))))
	}
	switch {
	case is(err, libvirt.ErrNoDomain):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("looking for the domain %s on %s: %w", host, h.URI, err)
	case d.Name != host:
		return nil, &LackError{fmt.Sprintf("on %s the domain of %s has the name %s: virsh domrename %s %s", h.URI, host, d.Name, d.Name, host)}
	}
	m, err := h.describe(d)
	if err != nil {
		return nil, fmt.Errorf("looking at the domain %s on %s: %w", host, h.URI, err)
	}
	if m == nil {
		return nil, &LackError{fmt.Sprintf("%s has a domain %s that bake has not made: rename one of the two (virsh domrename)", h.URI, host)}
	}
	return m, nil
}

// describe returns what a domain is, nil when it is not bake's.
func (h *Hypervisor) describe(d libvirt.Domain) (*Machine, error) {
	text, err := h.virt.DomainGetXMLDesc(d, libvirt.DomainXMLInactive)
	if err != nil {
		return nil, err
	}
	mark, ok, err := domain.ReadMark(text)
	if err != nil || !ok || mark.Host != d.Name || uuid.UUID(d.UUID).String() != domain.UUID(d.Name) {
		return nil, err
	}
	state, reason, err := h.virt.DomainGetState(d, 0)
	if err != nil {
		return nil, err
	}
	persistent, err := h.virt.DomainIsPersistent(d)
	if err != nil {
		return nil, err
	}
	autostart := int32(0)
	if persistent != 0 { // libvirt will not tell of another
		autostart, err = h.virt.DomainGetAutostart(d)
	}
	if err != nil {
		return nil, err
	}
	saved, err := h.virt.DomainHasManagedSaveImage(d, 0)
	if err != nil {
		return nil, err
	}
	s := libvirt.DomainState(state)
	return &Machine{Mark: mark, XML: text, Saved: saved != 0, Undefined: persistent == 0, Autostart: autostart != 0, Paused: s == libvirt.DomainPaused,
		Restored: s == libvirt.DomainRunning && libvirt.DomainRunningReason(reason) == libvirt.DomainRunningRestored,
		Stuck:    s == libvirt.DomainPaused && libvirt.DomainPausedReason(reason) == libvirt.DomainPausedIoerror,
		Running:  s != libvirt.DomainShutoff && s != libvirt.DomainCrashed && s != libvirt.DomainNostate}, nil
}

// Machines returns the domains that are bake's, by name.
func (h *Hypervisor) Machines() ([]Machine, error) {
	domains, _, err := h.virt.ConnectListAllDomains(1, 0)
	if err != nil {
		return nil, fmt.Errorf("listing the domains of %s: %w", h.URI, err)
	}
	all := []Machine{}
	for _, d := range domains {
		m, err := h.describe(d)
		if err != nil && !is(err, libvirt.ErrNoDomain) { // gone since
			return nil, fmt.Errorf("looking at the domain %s on %s: %w", d.Name, h.URI, err)
		}
		if m != nil {
			all = append(all, *m)
		}
	}
	slices.SortFunc(all, func(a, b Machine) int { return strings.Compare(a.Host, b.Host) })
	return all, nil
}

// Define makes libvirt know a domain, or know it otherwise; one that runs goes on as
// it is. The daemon holds the XML against its schema first.
func (h *Hypervisor) Define(text string) error {
	if _, err := h.virt.DomainDefineXMLFlags(text, libvirt.DomainDefineValidate); err != nil {
		return fmt.Errorf("defining the domain on %s: %w", h.URI, advised(err))
	}
	return nil
}

// Check says what of a domain's XML this libvirt, its QEMU and its firmware cannot give, the
// error being a *LackError: it has libvirt make QEMU's command line of it, and changes nothing.
// Files and devices that are not there are for a start to find out.
func (h *Hypervisor) Check(text string) error {
	_, err := h.virt.ConnectDomainXMLToNative("qemu-argv", text, 0)
	for _, number := range []libvirt.ErrorNumber{libvirt.ErrConfigUnsupported, libvirt.ErrXMLError, libvirt.ErrXMLDetail, libvirt.ErrOperationFailed} {
		if is(err, number) {
			return &LackError{fmt.Sprintf("%s cannot run such a domain: %v", h.URI, advised(err))}
		}
	}
	if IsRefused(err) { // by one that cannot be asked
		return nil
	}
	return err
}

// advised is what libvirt would not do, with what to do about it where that is known.
func advised(err error) error {
	for words, hint := range map[string]string{
		"virtiofs does not yet support read-only mode": "that is in libvirt 11.0; before, share a read-only bind mount and say readonly: false",
		"Unable to find any firmware":                  "it is in the package ovmf, or qemu-efi-aarch64; secure boot is machine.firmware",
		"swtpm":                                        "it is in the package swtpm, and the TPM is machine.tpm",
	} {
		if strings.Contains(err.Error(), words) {
			return fmt.Errorf("%w: %s", err, hint)
		}
	}
	return err
}

// with does something to the domain of a host.
func (h *Hypervisor) with(what, host string, do func(libvirt.Domain) error) error {
	d, err := h.virt.DomainLookupByName(host)
	if err == nil {
		err = do(d)
	}
	if err != nil {
		return fmt.Errorf("%s %s on %s: %w", what, host, h.URI, err)
	}
	return nil
}

// Live returns the XML of a machine that runs, as it runs.
func (h *Hypervisor) Live(host string) (text string, err error) {
	err = h.with("looking at what runs of", host, func(d libvirt.Domain) error {
		text, err = h.virt.DomainGetXMLDesc(d, 0)
		return err
	})
	return text, err
}

// Start starts a domain. With fresh its firmware's variables are those that come with the
// firmware (libvirt 8.1 and later): libvirt keeps them, whatever firmware is defined since.
func (h *Hypervisor) Start(host string, fresh bool) error {
	return h.with("starting", host, func(d libvirt.Domain) error {
		if !fresh {
			return h.virt.DomainCreate(d)
		}
		_, err := h.virt.DomainCreateWithFlags(d, uint32(libvirt.DomainStartResetNvram))
		return err
	})
}

// Kill ends a domain as a power cut does. One that is off is no error.
func (h *Hypervisor) Kill(host string) error {
	return h.with("switching off", host, func(d libvirt.Domain) error {
		err := h.virt.DomainDestroy(d)
		if is(err, libvirt.ErrOperationInvalid) {
			return nil
		}
		return err
	})
}

// pressAgain is the time between two presses of the power button: a guest that is
// busy with its boot misses one.
const pressAgain = 20 * time.Second

// Shutdown presses the power button and waits until the domain is off: for the end
// of ctx, if need be, which leaves it as it is.
func (h *Hypervisor) Shutdown(ctx context.Context, host string) error {
	return h.with("shutting down", host, func(d libvirt.Domain) error {
		pressed := time.Time{}
		for {
			state, _, err := h.virt.DomainGetState(d, 0)
			if err != nil || libvirt.DomainState(state) == libvirt.DomainShutoff || libvirt.DomainState(state) == libvirt.DomainCrashed {
				return err
			}
			if time.Since(pressed) >= pressAgain {
				pressed = time.Now()
				err := h.virt.DomainShutdownFlags(d, libvirt.DomainShutdownAcpiPowerBtn)
				if err != nil && !is(err, libvirt.ErrOperationInvalid) { // it is off by now, or about to be
					return err
				}
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(300 * time.Millisecond):
			}
		}
	})
}

// Undefine makes libvirt forget a domain that is off, with its firmware's variables
// and its TPM. No disk is deleted.
func (h *Hypervisor) Undefine(host string) error {
	return h.with("undefining", host, func(d libvirt.Domain) error {
		return h.virt.DomainUndefineFlags(d, libvirt.DomainUndefineNvram|libvirt.DomainUndefineManagedSave|
			libvirt.DomainUndefineSnapshotsMetadata|libvirt.DomainUndefineCheckpointsMetadata)
	})
}

// SetMark changes what bake has written into a domain, and nothing else.
func (h *Hypervisor) SetMark(host string, m domain.Mark) error {
	return h.with("marking", host, func(d libvirt.Domain) error {
		flags := libvirt.DomainAffectConfig
		if state, _, err := h.virt.DomainGetState(d, 0); err == nil && libvirt.DomainState(state) == libvirt.DomainRunning {
			flags |= libvirt.DomainAffectLive
		}
		return h.virt.DomainSetMetadata(d, int32(libvirt.DomainMetadataElement), libvirt.OptString{m.Element()},
			libvirt.OptString{"bake"}, libvirt.OptString{domain.MarkURI}, flags)
	})
}

// SetAutostart says whether a domain starts with the hypervisor.
func (h *Hypervisor) SetAutostart(host string, on bool) error {
	return h.with("setting the autostart of", host, func(d libvirt.Domain) error {
		var value int32
		if on {
			value = 1
		}
		return h.virt.DomainSetAutostart(d, value)
	})
}

// CheckNetwork says what keeps a machine from being plugged into a network of
// libvirt's.
func (h *Hypervisor) CheckNetwork(name string) error {
	n, err := h.virt.NetworkLookupByName(name)
	if is(err, libvirt.ErrNoNetwork) {
		return &LackError{fmt.Sprintf("%s has no network %q: see virsh net-list --all, and network.attach in the host file", h.URI, name)}
	}
	var active int32
	if err == nil {
		active, err = h.virt.NetworkIsActive(n)
	}
	switch {
	case err != nil:
		return fmt.Errorf("looking for the network %q on %s: %w", name, h.URI, err)
	case active == 0:
		return &LackError{fmt.Sprintf("the network %q of %s is not active: virsh net-start %s", name, h.URI, name)}
	}
	return nil
}

// CheckFilter says what keeps libvirt from filtering a machine's packets.
func (h *Hypervisor) CheckFilter(name string) error {
	_, err := h.virt.NwfilterLookupByName(name)
	if is(err, libvirt.ErrNoNwfilter) {
		return &LackError{fmt.Sprintf("%s has no filter %q: see virsh nwfilter-list, and network.filter in the host file", h.URI, name)}
	}
	if err != nil {
		return fmt.Errorf("looking for the filter %q on %s: %w", name, h.URI, err)
	}
	return nil
}

// is says whether an error is libvirt's of that number.
func is(err error, number libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == uint32(number)
}

// isNoDir says whether an error is about a directory that is not there, for which
// libvirt has no number of its own.
func isNoDir(err error) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == uint32(libvirt.ErrSystemError) && strings.Contains(e.Message, "No such file or directory")
}

func escape(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) // a strings.Builder takes everything
	return out.String()
}

// A LackError says that the hypervisor lacks something, or has something else in
// its place.
type LackError struct{ Text string }

func (e *LackError) Error() string { return e.Text }

// IsRefused says whether it was libvirt that would not do something.
func IsRefused(err error) bool {
	var e libvirt.Error
	return errors.As(err, &e)
}

// IsBusy says whether a file could not be written because somebody else has begun or
// done that meanwhile.
func IsBusy(err error) bool { return is(err, libvirt.ErrStorageVolExist) }
