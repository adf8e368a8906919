package binascii

import "testing"

func TestBodies(t *testing.T) {
	for _, test := range []struct {
		decode     func([]byte) []byte
		text, want string
	}{
		{Body64, "aGVs\nbG8=\r\n", "hello"},
		{Body64, "aGVsbG8", "hello"},          // without its padding
		{Body64, "aGV*sbG8=", "hello"},        // with something in it
		{Body64, "aGVsbG8=aGVsbG8=", "hello"}, // a second one behind
		{Body64, "a", "a"},                    // nothing can be made of it
		{Body64, "=aGVsbG8=", "hello"},
		{QuotedPrintable, "a=3Db=\nc=\r\nd==e=zf=", "a=bcd=e=zf"},
		{QuotedPrintable, "=C3=a9", "é"},
		{BodyUU, "begin 644 x\n%:&5L;&\\ \nend\n", "hello"},
		{BodyUU, "x\n", "x\n"},
		{BodyUU, "begin 9 x\n%:&5L;&\\\n", "begin 9 x\n%:&5L;&\\\n"},
		{BodyUU, "begin 644 x\n\nend\n", "begin 644 x\n\nend\n"},
	} {
		if got := string(test.decode([]byte(test.text))); got != test.want {
			t.Errorf("%q gives %q, want %q", test.text, got, test.want)
		}
	}
}
