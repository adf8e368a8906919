package download

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// An answer is what a server says it sends.
type answer struct {
	state
	from      int64 // the offset of the first byte
	until     int64 // the offset behind the last byte that may come
	portion   bool  // it ends before the file does, as announced
	delimited bool  // the end of the body can be told from a lost connection
	nothing   bool  // there are no more bytes: all are here
}

// judge decides, from the header alone, whether a body is what was asked for.
// Nothing that is here already is touched unless it is of no more use.
func (p *partial) judge(resp *http.Response, now func() time.Time) (answer, error) {
	switch status := resp.StatusCode; {
	case status == http.StatusRequestedRangeNotSatisfiable && p.offset > 0:
		return p.unsatisfiable(resp)
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return answer{}, &transient{err: said(resp), after: retryAfter(resp.Header, now)}
	case status != http.StatusOK && status != http.StatusPartialContent:
		return answer{}, final(resp)
	}
	if err := refuseBody(resp.Header); err != nil {
		return answer{}, err
	}
	a := answer{delimited: resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0 || resp.ProtoMajor > 1}
	a.state = state{
		Schema: stateSchema, URL: show(resp.Request.URL), Total: max(resp.ContentLength, 0),
		ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"),
	}
	if resp.StatusCode == http.StatusPartialContent {
		return p.judgeRange(resp, a)
	}
	a, err := p.judgeSize(a)
	a.until = limit(a.Total)
	return a, err
}

// judgeSize compares the size that a server announces, 0 if none, with the one
// that is known.
func (p *partial) judgeSize(a answer) (answer, error) {
	switch known := p.want.Size; {
	case known == 0 && a.Total > hardCap:
		return answer{}, tooLong(hardCap)
	case known == 0 || a.Total == 0:
		a.Total = max(known, a.Total)
	case a.Total != known:
		return answer{}, &IntegrityError{
			Got:    fmt.Sprintf("a file of %d bytes", a.Total),
			Want:   fmt.Sprintf("%d", known),
			Advice: "nothing was taken; the file was replaced, or this is the wrong one: check the URL, or use another mirror",
		}
	}
	return a, nil
}

// judgeRange accepts exactly the range that was asked for, or the beginning of
// it, of the version that the bytes here are of.
func (p *partial) judgeRange(resp *http.Response, a answer) (answer, error) {
	text := resp.Header.Get("Content-Range")
	first, last, total, ok := parseRange(text)
	length := last - first + 1
	if !ok || p.offset == 0 || first != p.offset ||
		resp.ContentLength >= 0 && resp.ContentLength != length {
		return answer{}, p.discard(&IntegrityError{
			Got:    fmt.Sprintf("the range %q in %d bytes", text, resp.ContentLength),
			Want:   fmt.Sprintf("one from byte %d on", p.offset),
			Advice: "the server is broken; run again to start from the beginning, or use another mirror",
		})
	}
	if a.Total = total; total == 0 {
		a.Total = p.state.Total
	}
	if a.changed(p.state) {
		return answer{}, p.restart("the file changed on the server while it was downloaded")
	}
	a, err := p.judgeSize(a)
	if err != nil {
		return answer{}, err
	}
	if p.state.Total > 0 && a.Total != p.state.Total || a.Total > 0 && last >= a.Total {
		return answer{}, p.restart("the file changed its size on the server while it was downloaded")
	}
	a.from, a.until, a.portion = first, last+1, a.Total == 0 || last < a.Total-1
	return a, nil
}

// changed reports whether one URL answers with another version than before.
// Another URL's ETag says nothing: the bytes may well be the same.
func (a answer) changed(before state) bool {
	return a.URL == before.URL &&
		(a.ETag != "" && before.ETag != "" && a.ETag != before.ETag ||
			a.LastModified != "" && before.LastModified != "" && a.LastModified != before.LastModified)
}

// restart drops what is here, to ask for everything after a pause.
func (p *partial) restart(why string) error {
	if err := p.reset(); err != nil {
		return err
	}
	return &transient{err: errors.New(why)}
}

// unsatisfiable is the answer to a range that begins where the file ends, or
// behind that.
func (p *partial) unsatisfiable(resp *http.Response) (answer, error) {
	total, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes */")
	if size, err := strconv.ParseInt(total, 10, 64); ok && err == nil && size == p.offset && p.state.Total == 0 {
		p.ended = true
		return answer{nothing: true}, nil
	}
	return answer{}, p.restart("the file on the server is shorter than what was downloaded")
}

// parseRange reads "bytes FIRST-LAST/TOTAL"; a TOTAL of "*" is 0.
func parseRange(text string) (first, last, total int64, ok bool) {
	text, ok = strings.CutPrefix(text, "bytes ")
	span, size, found := strings.Cut(text, "/")
	from, to, dash := strings.Cut(span, "-")
	if !ok || !found || !dash {
		return 0, 0, 0, false
	}
	number := func(digits string) int64 {
		n, err := strconv.ParseUint(digits, 10, 62)
		ok = ok && err == nil
		return int64(n)
	}
	first, last = number(from), number(to)
	if size != "*" {
		total = number(size)
		ok = ok && last < total
	}
	return first, last, total, ok && first <= last
}

// refuseBody refuses what is certainly not the bytes of an image.
func refuseBody(header http.Header) error {
	for _, coding := range header.Values("Content-Encoding") {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return &IntegrityError{
				Got:    fmt.Sprintf("a body in Content-Encoding %q", coding),
				Want:   "the bytes as they are",
				Advice: "the server or a proxy re-encodes files; use another mirror, or go around the proxy",
			}
		}
	}
	text := header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(text)
	if err != nil {
		kind, _, _ = strings.Cut(strings.ToLower(text), ";")
	}
	if kind = strings.TrimSpace(kind); kind == "text/html" || kind == "application/xhtml+xml" {
		return &IntegrityError{
			Got:    fmt.Sprintf("a page of Content-Type %q", text),
			Want:   "an image",
			Advice: "open the URL in a browser: it may be a login page of the network, or a moved file",
		}
	}
	return nil
}

// said turns a status into an error.
func said(resp *http.Response) error {
	where := ""
	if resp.Request.Response != nil { // after a redirect
		where = show(resp.Request.URL) + " "
	}
	return fmt.Errorf("%sanswered %d %s, expected 200 OK", where, resp.StatusCode, http.StatusText(resp.StatusCode))
}

// final is a status that will be the same next time.
func final(resp *http.Response) *NetworkError {
	advice := "check the URL, or use another mirror"
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		advice = "the file is not there, or not any more: dated images are removed after a while; check the URL, or use a mirror that keeps them"
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		advice = "the server or a proxy wants other credentials: check those in the URL or in the proxy's variable"
	}
	return &NetworkError{Err: said(resp), Advice: advice}
}

// retryAfter reads seconds or a date, and returns 0 for anything else.
func retryAfter(header http.Header, now func() time.Time) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(date.Sub(now()), 0)
	}
	return 0
}

// connection judges an error that is not an answer: of the way there, and so
// worth another attempt unless it is one of trust.
func (f Fetcher) connection(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errIdle) {
		return &transient{err: fmt.Errorf("%w for %v", errIdle, f.Idle)}
	}
	var outer *url.Error // would repeat the URL, with its query
	if errors.As(err, &outer) {
		err = outer.Err
	}
	var (
		refused     *IntegrityError
		given       *NetworkError
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		plain       tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &given):
		return given
	case errors.As(err, &certificate), errors.As(err, &authority):
		return &NetworkError{Err: err, Advice: "check this machine's clock and its certificate authorities, and whether a proxy intercepts TLS"}
	case errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return &NetworkError{Err: err, Advice: "the server does not speak TLS on this port: check the URL"}
	}
	return &transient{err: err}
}
