package image

import "bytes"

// sniffBytes reaches past the signature of an ISO 9660 image, at byte 32769.
const sniffBytes = 33 << 10

// signatures of what people give to a program that wants a qcow2 image.
var signatures = []struct {
	at    int
	bytes string
	what  string
}{
	{0, "\x1f\x8b", "it looks like gzip: unpack it first"},
	{0, "\xfd7zXZ\x00", "it looks like xz: unpack it first"},
	{0, "\x28\xb5\x2f\xfd", "it looks like zstd: unpack it first"},
	{0, "BZh", "it looks like bzip2: unpack it first"},
	{0, "PK\x03\x04", "it looks like a zip archive"},
	{0, "hsqs", "it looks like squashfs"},
	{0, "KDMV", "it looks like VMDK: convert it with qemu-img convert -f vmdk -O qcow2"},
	{0, "vhdxfile", "it looks like VHDX: convert it with qemu-img convert -f vhdx -O qcow2"},
	{0, "conectix", "it looks like VHD: convert it with qemu-img convert -f vpc -O qcow2"},
	{0x40, "\x7f\x10\xda\xbe", "it looks like VDI: convert it with qemu-img convert -f vdi -O qcow2"},
	{32769, "CD001", "it looks like an ISO 9660 image: an installer, not an installed disk"},
	{512, "EFI PART", "it looks like a raw disk: convert it with qemu-img convert -f raw -O qcow2"},
	{510, "\x55\xaa", "it looks like a raw disk: convert it with qemu-img convert -f raw -O qcow2"},
	{257, "ustar", "it looks like a tar archive"},
}

// looksLike says in half a sentence what a file is, by its first bytes.
func looksLike(start []byte) string {
	if len(start) == 0 {
		return "it is empty"
	}
	for _, s := range signatures {
		if len(start) >= s.at && bytes.HasPrefix(start[s.at:], []byte(s.bytes)) {
			return s.what
		}
	}
	text := bytes.ToLower(bytes.TrimLeft(start[:min(len(start), 512)], "\xef\xbb\xbf \t\r\n"))
	for _, tag := range []string{"<!doctype html", "<html", "<head"} {
		if bytes.HasPrefix(text, []byte(tag)) {
			return "it looks like an HTML page: a download that got a web page instead of the file"
		}
	}
	if len(bytes.Trim(start, "\x00")) == 0 {
		return "it starts with zeros"
	}
	return "its first bytes are none that are known here"
}
