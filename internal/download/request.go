package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	maxRedirects = 5
	firstPause   = 500 * time.Millisecond
	maxPause     = 30 * time.Second
	maxAfter     = 2 * time.Minute // of a Retry-After
)

var errIdle = errors.New("no byte came")

// transport has no limit on a whole answer: the idle time is what ends one.
func transport() http.RoundTripper {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 30 * time.Second,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		DisableKeepAlives:   true, // one answer per connection: the next is asked for because this one broke
	}
}

// attempt asks once for what is missing and writes what comes. Its error is a
// *transient when asking again makes sense.
func (f Fetcher) attempt(ctx context.Context, p *partial) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(f.Idle, func() { cancel(errIdle) })
	defer idle.Stop()

	req, err := p.request(ctx)
	if err != nil {
		return err
	}
	client := http.Client{Transport: f.Transport, CheckRedirect: redirect}
	resp, err := client.Do(req)
	if err != nil {
		return f.connection(ctx, err)
	}
	defer resp.Body.Close()
	a, err := p.judge(resp, f.now)
	if err != nil {
		return err
	}
	if a.nothing {
		return nil
	}
	if err := p.adopt(a.state, a.from); err != nil {
		return err
	}
	f.Progress(p.offset, p.state.Total)
	return f.receive(ctx, p, resp.Body, a, idle)
}

// request asks for what is missing, and only of the version that is there.
func (p *partial) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.want.URL, nil)
	if err != nil {
		return nil, err
	}
	if user := req.URL.User; user != nil {
		// As a header of this request, redirect can take them off the next.
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
		req.URL.User = nil
	}
	req.Header.Set("User-Agent", "bake")
	req.Header.Set("Accept-Encoding", "identity") // a range of a compressed body is another range
	if p.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.offset))
		if validator := p.state.validator(); validator != "" && p.state.URL == show(req.URL) {
			req.Header.Set("If-Range", validator)
		}
	}
	return req, nil
}

// validator returns what If-Range may carry: a strong ETag, or a date.
func (s state) validator() string {
	if strings.HasPrefix(s.ETag, `"`) {
		return s.ETag
	}
	return s.LastModified
}

// redirect says whether a redirect is followed, and with what.
func redirect(req *http.Request, via []*http.Request) error {
	first, last := via[0].URL, via[len(via)-1].URL
	switch {
	case len(via) > maxRedirects:
		return &NetworkError{
			Err:    fmt.Errorf("more than %d redirects, the last to %s", maxRedirects, show(req.URL)),
			Advice: "use the URL of the file itself, or another mirror",
		}
	case req.URL.Scheme != "https" && (last.Scheme == "https" || req.URL.Scheme != "http"):
		return &IntegrityError{
			Got:    "a redirect to " + show(req.URL),
			Want:   "one that stays with " + last.Scheme,
			Advice: "use another mirror",
		}
	}
	req.Header.Del("Referer") // has the path, and paths can be secret
	if req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
		req.Header.Del("Authorization")
		req.Header.Del("Cookie")
	}
	return nil
}

// receive writes a body until it ends, and refuses one that is too long before
// it writes what is too much.
func (f Fetcher) receive(ctx context.Context, p *partial, body io.Reader, a answer, idle *time.Timer) error {
	for {
		b := p.sums.block()
		idle.Reset(f.Idle)
		n, err := body.Read(b.data[:])
		idle.Stop() // a slow disk is not a silent server
		p.received += int64(n)
		if p.offset+int64(n) > a.until {
			p.sums.drop(b)
			return p.discard(tooLong(a.until))
		}
		if err := p.write(b, n); err != nil {
			return err
		}
		f.Progress(p.offset, p.state.Total)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return p.end(a)
		default:
			return f.connection(ctx, fmt.Errorf("the body was cut at byte %d: %w", p.offset, err))
		}
	}
}

func tooLong(most int64) *IntegrityError {
	return &IntegrityError{
		Got:    "a longer file",
		Want:   fmt.Sprintf("at most %d bytes", most),
		Advice: "the bytes were thrown away; use another mirror, and check that the URL is that of the file",
	}
}

// end judges that a body came to its end.
func (p *partial) end(a answer) error {
	switch total := p.state.Total; {
	case p.offset == total, a.portion:
		return nil
	case total == 0:
		p.ended = true
		return nil
	case !a.delimited:
		return &transient{err: fmt.Errorf("the connection was closed after %d of %d bytes", p.offset, total)}
	}
	return p.discard(&IntegrityError{
		Got:    fmt.Sprintf("a file of %d bytes", p.offset),
		Want:   fmt.Sprintf("%d", p.state.Total),
		Advice: "the bytes were thrown away; use another mirror, and check that the URL is that of the file",
	})
}

// pause returns how long to wait after so many failures in a row: what the
// server asks for, or half a second, doubled each time, less up to a half so
// that many clients of a server that comes back do not come back at once.
func (f Fetcher) pause(failed int, after time.Duration) time.Duration {
	if after > 0 {
		return min(after, maxAfter)
	}
	pause := min(firstPause<<min(failed, 16), maxPause)
	return pause - time.Duration(f.jitter()*float64(pause)/2)
}
