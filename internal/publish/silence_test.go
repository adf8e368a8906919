package publish

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestSilence: a server that goes silent in the middle of an answer is given up.
func TestSilence(t *testing.T) {
	defer func(usual time.Duration) { silence = usual }(silence)
	silence = 50 * time.Millisecond
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Length", "1000")
		_, _ = out.Write([]byte("half of it"))
		_ = http.NewResponseController(out).Flush()
		<-over
	}))
	defer server.Close()
	defer close(over)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s3, err := Open("s3://fleet/ops", Options{Getenv: getenv(map[string]string{"AWS_ENDPOINT_URL_S3": server.URL, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})})
	if err != nil {
		t.Fatal(err)
	}
	var fault *Fault
	if _, _, err := s3.Record(ctx, "record"); ctx.Err() != nil || !errors.As(err, &fault) || !fault.Network() {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}
