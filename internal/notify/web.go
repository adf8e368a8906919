package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// most bounds what is sent as a text.
const most = 10 << 10

// ping tells a service that watches whether a night comes: its start, then its end,
// good or not, with the summary.
func (s *Sender) ping(ctx context.Context, t target, m *Message) error {
	u := *s.urls[t.at]
	switch {
	case m == nil:
		u = *u.JoinPath("start")
	case m.isRed():
		u = *u.JoinPath("fail")
	}
	body := ""
	if m != nil {
		body = cut(m.words()["table"])
	}
	return post(ctx, &u, "text/plain; charset=utf-8", []byte(body))
}

// webhook sends a night, or what the configuration makes of it.
func (s *Sender) webhook(ctx context.Context, t target, m Message) error {
	value := m.Content
	if t.body != nil {
		value = tree(t.body, m.words())
	}
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return post(ctx, s.urls[t.at], "application/json", content)
}

var (
	known = slices.Sorted(maps.Keys(Message{}.words()))
	word  = lazy.Regexp(`\(\(\s*([^()]*?)\s*\)\)`)
)

// checkBody refuses words that nobody knows.
func checkBody(n *doc.Node, path string, problems *diag.List) {
	for _, m := range word.FindAllStringSubmatch(n.Text, -1) {
		if !slices.Contains(known, m[1]) {
			problems.Add(n.Problem(path, diag.DidYouMean(m[1], known), "unknown word ((%s)): there are %s", m[1], strings.Join(known, ", ")))
		}
	}
	for i, item := range n.Items {
		checkBody(item, fmt.Sprintf("%s[%d]", path, i), problems)
	}
	for _, pair := range n.Pairs {
		checkBody(pair.Value, doc.Join(path, pair.Key.Text), problems)
	}
}

// tree makes what JSON is made of from a node, with words replaced in its texts.
func tree(n *doc.Node, words map[string]string) any {
	switch n.Kind {
	case doc.Map:
		m := map[string]any{}
		for _, pair := range n.Pairs {
			m[pair.Key.Text] = tree(pair.Value, words)
		}
		return m
	case doc.List:
		list := []any{}
		for _, item := range n.Items {
			list = append(list, tree(item, words))
		}
		return list
	case doc.Null:
		return nil
	case doc.Bool:
		return n.Text == "true"
	case doc.Int, doc.Float:
		return json.Number(n.Text)
	}
	return cut(word.ReplaceAllStringFunc(n.Text, func(found string) string { return words[word.FindStringSubmatch(found)[1]] }))
}

// cut bounds a text, at the end of a character.
func cut(text string) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "\n..."
}

// post sends something, a second time if nothing came back. No error says where to.
func post(ctx context.Context, to *url.URL, kind string, content []byte) error {
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for try := 0; ; try++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(content))
		if err != nil {
			return errors.New("the URL will not do")
		}
		request.Header.Set("Content-Type", kind)
		request.Header.Set("User-Agent", "bake")
		response, err := client.Do(request)
		switch {
		case err == nil:
			_, _ = io.CopyN(io.Discard, response.Body, 64<<10)
			_ = response.Body.Close()
			if response.StatusCode/100 == 2 {
				return nil
			}
			err = fmt.Errorf("the server answers %d %s", response.StatusCode, http.StatusText(response.StatusCode))
			if response.StatusCode < 500 {
				return err
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // it would say the URL
		}
		if try == 1 {
			return hideURL(err, to)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// hideURL leaves of an error what cannot have a secret in it, should a cause have
// quoted the URL after all.
func hideURL(err error, to *url.URL) error {
	text := err.Error()
	for _, part := range []string{to.String(), to.RequestURI(), to.User.String()} {
		if len(part) > 1 && strings.Contains(text, part) {
			return errors.New("it cannot be reached")
		}
	}
	return errors.New(text)
}
