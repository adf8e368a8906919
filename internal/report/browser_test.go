package report

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a Chromium without a window, spoken to in its DevTools protocol over a pair
// of pipes: a JSON object and a NUL each way. It has no network but what it is shown.
type browser struct {
	to      io.Writer
	session string

	mutex   sync.Mutex
	last    int
	answers map[int]chan answer
	events  []event
	ended   error
}

type answer struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

type event struct {
	Method string
	Params json.RawMessage
}

const browserTime = 2 * time.Minute // for all of a test, on a machine with much else to do

// openBrowser starts one with a page in it. A machine without one is no place for this test,
// unless it is where all are run.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is not installed: make deps")
		}
		t.Skip("chromium is not installed: make deps")
	}
	ctx, cancel := context.WithTimeout(context.Background(), browserTime)
	t.Cleanup(cancel)
	theirs, to, errIn := os.Pipe()
	from, ours, errOut := os.Pipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--host-resolver-rules=MAP * ~NOTFOUND", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, ours}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	ours.Close()
	b := &browser{to: to, answers: map[int]chan answer{}}
	go b.listen(from)
	t.Cleanup(func() {
		_, _ = b.send("", "Browser.close", nil)
		_ = cmd.Wait() // its status says how it was closed
		to.Close()
		from.Close()
	})
	var page struct{ TargetID string }
	b.do(t, "Target.createTarget", map[string]any{"url": "about:blank"}, &page)
	var attached struct{ SessionID string }
	b.do(t, "Target.attachToTarget", map[string]any{"targetId": page.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		b.do(t, domain+".enable", nil, nil)
	}
	return b
}

func (b *browser) listen(from io.Reader) {
	reader := bufio.NewReader(from)
	for {
		line, err := reader.ReadBytes(0)
		b.mutex.Lock()
		if err != nil {
			b.ended = fmt.Errorf("the browser is gone: %w", err)
			for _, waiting := range b.answers {
				close(waiting)
			}
			b.answers = map[int]chan answer{}
			b.mutex.Unlock()
			return
		}
		var message struct {
			ID int
			answer
			event
		}
		_ = json.Unmarshal(line[:len(line)-1], &message) // a browser's own words
		if waiting, ok := b.answers[message.ID]; ok {
			waiting <- message.answer
			delete(b.answers, message.ID)
		} else if message.Method != "" {
			b.events = append(b.events, message.event)
		}
		b.mutex.Unlock()
	}
}

func (b *browser) send(session, method string, params any) (<-chan answer, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.ended != nil {
		return nil, b.ended
	}
	b.last++
	message := map[string]any{"id": b.last, "method": method}
	if params != nil {
		message["params"] = params
	}
	if session != "" {
		message["sessionId"] = session
	}
	data, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	waiting := make(chan answer, 1)
	b.answers[b.last] = waiting
	_, err = b.to.Write(append(data, 0))
	return waiting, err
}

// do has a method carried out.
func (b *browser) do(t *testing.T, method string, params, result any) {
	t.Helper()
	waiting, err := b.send(b.session, method, params)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	got, ok := <-waiting
	switch {
	case !ok:
		t.Fatalf("%s: %v", method, b.ended)
	case got.Error != nil:
		t.Fatalf("%s: %s", method, got.Error.Message)
	case result != nil:
		if err := json.Unmarshal(got.Result, result); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
	}
}

// eval is the value of an expression in the page.
func (b *browser) eval(t *testing.T, expression string, value any) {
	t.Helper()
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	b.do(t, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &got)
	if got.ExceptionDetails != nil {
		t.Fatalf("%s: %s", expression, got.ExceptionDetails.Exception.Description)
	}
	if value != nil {
		if err := json.Unmarshal(got.Result.Value, value); err != nil {
			t.Fatalf("%s: %v: %s", expression, err, got.Result.Value)
		}
	}
}

// show opens a page from a file and waits until it is there.
func (b *browser) show(t *testing.T, page []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, page, 0o600); err != nil {
		t.Fatal(err)
	}
	b.mutex.Lock()
	b.events = nil
	b.mutex.Unlock()
	b.do(t, "Page.navigate", map[string]any{"url": "file://" + path}, nil)
	b.eval(t, `new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))`, nil)
	var href string
	if b.eval(t, `location.href`, &href); href != "file://"+path {
		t.Fatalf("it shows %s", href)
	}
}

// size makes the window one of a phone or a desk.
func (b *browser) size(t *testing.T, width, height int, isPhone bool) {
	t.Helper()
	b.do(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": isPhone}, nil)
}

// scheme is light or dark.
func (b *browser) scheme(t *testing.T, scheme string) {
	t.Helper()
	b.do(t, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// press presses keys one after another: a name as the protocol has it, or one character.
func (b *browser) press(t *testing.T, keys ...string) {
	t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
	for _, key := range keys {
		down := map[string]any{"type": "keyDown", "key": key, "windowsVirtualKeyCode": codes[key]}
		switch {
		case key == "Enter":
			down["text"] = "\r"
		case len(key) == 1:
			down["text"] = key
		}
		b.do(t, "Input.dispatchKeyEvent", down, nil)
		b.do(t, "Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": codes[key]}, nil)
	}
}

// picture is the whole page as a PNG.
func (b *browser) picture(t *testing.T, path string) {
	t.Helper()
	var got struct{ Data string }
	b.do(t, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &got)
	data, err := base64.StdEncoding.DecodeString(got.Data)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil || len(data) < 10<<10 {
		t.Fatalf("a picture of %d bytes: %v", len(data), err)
	}
}

// complaints are what the console says, exceptions, and requests for anything but the page
// itself and what is in it.
func (b *browser) complaints() (all []string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	requests := 0
	for _, e := range b.events {
		switch e.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening":
			all = append(all, e.Method+" "+string(e.Params))
		case "Network.requestWillBeSent":
			var sent struct{ Request struct{ URL string } }
			_ = json.Unmarshal(e.Params, &sent)
			if strings.HasPrefix(sent.Request.URL, "data:") {
				continue
			}
			if requests++; requests > 1 || !strings.HasPrefix(sent.Request.URL, "file://") {
				all = append(all, "request "+sent.Request.URL)
			}
		}
	}
	return all
}

// looked is where pictures are kept: BAKE_PICTURES, or a directory that the test ends.
func looked(t *testing.T) string {
	if dir := os.Getenv("BAKE_PICTURES"); dir != "" {
		return dir
	}
	return t.TempDir()
}
