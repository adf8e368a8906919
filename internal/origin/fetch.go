package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxFile      = 1 << 20 // bytes of a list or a signature: real ones have 10 KiB
	maxRedirects = 5
	patience     = 30 * time.Second // for one small file, from question to last byte
)

// fetcher gets small files. plain says that http will do, because a signature
// follows.
type fetcher struct {
	transport http.RoundTripper
	timeout   time.Duration
	plain     bool
	answers   *answers // of the last time; nil: everything is asked anew
}

func (f fetcher) get(ctx context.Context, address string) ([]byte, error) {
	if is, ok := f.answers.without(address); ok && is.Status != 0 {
		return nil, refusedStatus(address, is.Status)
	} else if ok {
		return is.Content, nil
	}
	limited, stop := context.WithTimeout(ctx, f.timeout)
	defer stop()
	content, err := f.try(limited, address)
	var bad *IntegrityError
	var down *NetworkError
	switch {
	case err == nil:
		return content, nil
	case ctx.Err() != nil: // told to stop: nobody's fault
		return nil, fmt.Errorf("fetching %s: %w", address, context.Cause(ctx))
	case errors.As(err, &bad):
		return nil, bad
	case errors.As(err, &down):
		return nil, down
	case limited.Err() != nil:
		err = fmt.Errorf("no whole answer within %v", f.timeout)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // it would say the address again
		err = wrapped.Err
	}
	return nil, &NetworkError{URL: address, Err: err, Advice: "check the connection and the proxy, or set a mirror, and try again"}
}

func (f fetcher) try(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept-Encoding", "identity") // so that the limit is one of bytes received
	request.Header.Set("Cache-Control", "no-cache")   // a list from a proxy and a signature from the server do not fit
	request.Header.Set("User-Agent", "bake")
	f.answers.condition(request)
	client := http.Client{Transport: f.transport, CheckRedirect: f.redirect} // no cookies, no credentials
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotModified {
		if content, ok := f.answers.unchanged(address, request); ok {
			return content, nil
		}
	}
	if response.StatusCode != http.StatusOK {
		refused := refusedStatus(address, response.StatusCode)
		if refused.absent() {
			f.answers.noteAbsent(address, response.StatusCode)
		}
		return nil, refused
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxFile+1))
	bad := &IntegrityError{URL: address, Advice: "try again or set another mirror"}
	switch {
	case len(content) > maxFile:
		bad.Err = fmt.Errorf("the file is longer than %d bytes, which no list of checksums is", maxFile)
		return nil, bad
	case err != nil:
		return nil, fmt.Errorf("the answer is cut off after %d bytes: %w", len(content), err)
	case response.Header.Get("Content-Encoding") != "":
		bad.Err = fmt.Errorf("the answer is encoded as %s, which was not asked for", quote(response.Header.Get("Content-Encoding")))
		return nil, bad
	case strings.Contains(strings.ToLower(response.Header.Get("Content-Type")), "html") || bytes.HasPrefix(bytes.TrimSpace(content), []byte("<")):
		bad.Err = errors.New("this is an HTML page, not the file: the answer of a proxy, a login page or an error page")
		return nil, bad
	}
	f.answers.note(address, response.Header, content)
	return content, nil
}

func refusedStatus(address string, status int) *NetworkError {
	e := &NetworkError{URL: address, Status: status, Err: fmt.Errorf("the server answers %d %s", status, http.StatusText(status)),
		Advice: "try again later or set another mirror"}
	if e.absent() {
		e.Advice = "check the reference and the mirror: builds are removed after some months, and an unsigned list is not used"
	}
	return e
}

// redirect decides whether to follow. A step from https to http is refused even
// where plain http would do: whoever asks for https gets it.
func (f fetcher) redirect(next *http.Request, via []*http.Request) error {
	from, to := via[len(via)-1].URL, next.URL
	bad := &IntegrityError{URL: from.Redacted(), Advice: "set another mirror"}
	switch {
	case len(via) > maxRedirects:
		return &NetworkError{URL: via[0].URL.Redacted(), Err: fmt.Errorf("more than %d redirects", maxRedirects), Advice: "set another mirror"}
	case to.User != nil:
		bad.Err = fmt.Errorf("a redirect to %s has credentials in it", quote(to.Redacted()))
	case from.Scheme == "https" && to.Scheme != "https":
		bad.Err = fmt.Errorf("a redirect leaves https for %s", quote(to.Redacted()))
	case to.Scheme != "https" && !f.plain && !isLoopback(to):
		bad.Err = fmt.Errorf("a redirect leads to %s, without https and without a signature", quote(to.Redacted()))
	default:
		next.Header.Del("Referer")
		return nil
	}
	return bad
}
