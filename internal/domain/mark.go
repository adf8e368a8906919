package domain

import (
	"encoding/xml"
	"fmt"
)

// MarkURI is the namespace of a Mark.
const MarkURI = "urn:bake:domain:1"

// A Mark is what bake writes into a domain's metadata, for itself and for others
// who look:
//
//	<bake:machine xmlns:bake="urn:bake:domain:1" host="zap" generation="..."
//	              previous="..." trying="yes" leaving="yes" fresh="yes" secure="yes" tpm="yes" reserved="default"/>
//
// libvirt keeps one element of a namespace, so that all is in this one.
type Mark struct {
	Host       string
	Generation string
	Previous   string // generation that was there before and has attested, "" for none
	Trying     bool   // this generation has not attested since it was put there
	Leaving    bool   // somebody has pressed its power button, and it may go off at any time
	Fresh      bool   // what libvirt keeps of its firmware's variables is of another firmware, and is made anew until it has attested
	Secure     Choice // of secure boot, where machine.firmware is auto
	TPM        Choice // of a TPM, where machine.tpm is auto
	Reserved   string // networks that bake has keep an address for it, with spaces between them
}

// A Choice is what came of something that a host file leaves to the hypervisor.
type Choice string

// A generation has Auto, and the domain that was made of it Chosen where the hypervisor had
// it; "" is that it had not, or was not asked.
const (
	Auto   Choice = "auto"
	Chosen Choice = yes
)

func wanted(is bool) Choice {
	if is {
		return Auto
	}
	return ""
}

// String is the element.
func (m Mark) String() string {
	return m.element(xml.Name{Local: "bake:machine"}, MarkURI)
}

// Element is the element without its namespace, as libvirt wants it when it adds
// that itself.
func (m Mark) Element() string {
	return m.element(xml.Name{Local: "machine"}, "")
}

func (m Mark) element(name xml.Name, space string) string {
	machine := struct {
		XMLName    xml.Name
		Namespace  string `xml:"xmlns:bake,attr,omitempty"`
		Host       string `xml:"host,attr"`
		Generation string `xml:"generation,attr"`
		Previous   string `xml:"previous,attr,omitempty"`
		Trying     string `xml:"trying,attr,omitempty"`
		Leaving    string `xml:"leaving,attr,omitempty"`
		Fresh      string `xml:"fresh,attr,omitempty"`
		Secure     Choice `xml:"secure,attr,omitempty"`
		TPM        Choice `xml:"tpm,attr,omitempty"`
		Reserved   string `xml:"reserved,attr,omitempty"`
	}{XMLName: name, Namespace: space, Host: m.Host, Generation: m.Generation, Previous: m.Previous, Secure: m.Secure, TPM: m.TPM, Reserved: m.Reserved}
	if m.Trying {
		machine.Trying = yes
	}
	if m.Leaving {
		machine.Leaving = yes
	}
	if m.Fresh {
		machine.Fresh = yes
	}
	text, err := xml.Marshal(machine)
	if err != nil { // there is nothing in it that could fail
		panic(err)
	}
	return string(text)
}

// ReadMark finds the mark in a domain's XML; false says that there is none that bake
// would write, and that the domain is somebody else's.
func ReadMark(domain string) (Mark, bool, error) {
	var d struct {
		Metadata struct {
			Machine *struct {
				Host       string `xml:"host,attr"`
				Generation string `xml:"generation,attr"`
				Previous   string `xml:"previous,attr"`
				Trying     string `xml:"trying,attr"`
				Leaving    string `xml:"leaving,attr"`
				Fresh      string `xml:"fresh,attr"`
				Secure     Choice `xml:"secure,attr"`
				TPM        Choice `xml:"tpm,attr"`
				Reserved   string `xml:"reserved,attr"`
			} `xml:"urn:bake:domain:1 machine"`
		} `xml:"metadata"`
	}
	if err := xml.Unmarshal([]byte(domain), &d); err != nil {
		return Mark{}, false, fmt.Errorf("reading the XML of a domain: %w", err)
	}
	m := d.Metadata.Machine
	if m == nil || !isName(m.Generation) || m.Previous != "" && !isName(m.Previous) { // they become parts of paths
		return Mark{}, false, nil
	}
	return Mark{Host: m.Host, Generation: m.Generation, Previous: m.Previous,
		Trying: m.Trying == yes, Leaving: m.Leaving == yes, Fresh: m.Fresh == yes, Secure: m.Secure.known(), TPM: m.TPM.known(), Reserved: m.Reserved}, true, nil
}

// known is a choice that bake would write.
func (c Choice) known() Choice {
	if c != Auto && c != Chosen {
		return ""
	}
	return c
}
