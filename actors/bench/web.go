package bench

import (
	"context"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/transport"
)

// offer completes the engine's options with what the script plays.
func (b *Bench) offer(o *actors.Options) {
	o.HTTP = func(binding drivers.Binding) (drivers.HTTPClient, error) { return b.rig.Load().client(binding) }
}

// web is the HTTP client of the twin under test. Which requests are allowed is the real client's matter; they go to the
// script.
type web struct {
	*httpclient.Client
	r *rig
}

func (r *rig) client(b drivers.Binding) (drivers.HTTPClient, error) {
	c, err := httpclient.New(transport.Options{Binding: b})
	if err != nil {
		return nil, err
	}
	return &web{c, r}, nil
}

// Do implements drivers.HTTPClient.
func (w *web) Do(ctx context.Context, req drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	u, err := w.Allow(req.URL)
	if err != nil {
		return drivers.HTTPResponse{}, err
	}
	req.URL = u.String()
	return w.r.out.request(ctx, req)
}
