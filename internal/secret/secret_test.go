package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log"
	"log/slog"
	"strings"
	"testing"
	text "text/template"

	"github.com/google/go-cmp/cmp"
)

const canary = "canary hunter2"

// shows reports whether a text has the canary in a form that a printer makes.
func shows(text string) bool {
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary),
		hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary)),
		strings.Trim(fmt.Sprint([]byte(canary)), "[]"), strings.Trim(fmt.Sprintf("%#v", []byte(canary)), "[]byte{}")} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// outer has a value where fmt does not ask the value's own methods.
type outer struct {
	Shown  Value
	hidden Value
	list   []Value
	byName map[string]Value
	at     *Value
	any    any
}

// Whatever prints or encodes a value, or a type with one in it, does not show
// its content.
func TestValueIsNeverShown(t *testing.T) {
	v := New("db", []byte(canary))
	o := outer{v, v, []Value{v}, map[string]Value{"x": v}, &v, v}
	var all []string
	print := func(args ...any) {
		for _, arg := range args {
			for verb := 'A'; verb <= 'z'; verb++ {
				for _, flags := range []string{"", "+", "#", "-", " ", "0", "20.3", "+#"} {
					all = append(all, fmt.Sprintf("%"+flags+string(verb), arg))
				}
			}
			all = append(all, fmt.Sprint(arg), fmt.Sprintln(arg), fmt.Errorf("x: %v", arg).Error(), fmt.Sprintf("%d", arg))
			for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal, encodeGob} {
				data, err := encode(arg)
				all = append(all, string(data), fmt.Sprint(err))
			}
			var out bytes.Buffer
			log.New(&out, "", 0).Print(arg)
			slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", arg)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", arg)
			_ = text.Must(text.New("").Parse(`{{.}} {{printf "%s %q %x" . . .}}`)).Execute(&out, arg)
			_ = template.Must(template.New("").Parse(`<a href="{{.}}">{{.}}</a><script>{{.}}</script>`)).Execute(&out, arg)
			all = append(all, out.String())
		}
	}
	print(v, &v, []Value{v}, map[string]Value{"x": v}, [1]Value{v}, o, &o, []any{o}, errors.Join(errors.New(v.String())))
	all = append(all, v.String(), v.GoString(), v.Name, cmp.Diff(v.String(), New("db", nil).String()))
	for _, text := range all {
		if shows(text) {
			t.Errorf("%q", text)
		}
	}
	if len(all) < 1000 {
		t.Errorf("only %d ways were tried", len(all))
	}
	if data, err := json.Marshal(map[string]Value{"v": v}); err != nil || string(data) != `{"v":"secret db"}` {
		t.Errorf("%s, %v", data, err)
	}
	if string(v.Reveal()) != canary || (Value{}).Reveal() != nil {
		t.Error("Reveal does not reveal")
	}
}

// The search above must be able to find something: a type that keeps its
// content in a field, with all the same methods, is seen through.
type careless struct {
	Name    string
	content []byte
}

func (careless) String() string   { return "secret" }
func (careless) GoString() string { return "secret" }

func TestShows(t *testing.T) {
	c := careless{"db", []byte(canary)}
	for _, format := range []string{"%v", "%+v", "%x", "%d"} {
		text := fmt.Sprintf(format, struct{ c careless }{c})
		if !shows(text) {
			t.Errorf("the search does not see it in %q", text)
		}
	}
}

func encodeGob(v any) ([]byte, error) {
	var out bytes.Buffer
	err := gob.NewEncoder(&out).Encode(v)
	return out.Bytes(), err
}
