package pki

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

func certPEM(s *state) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: s.leaf.Raw})
}

// Renew makes a fresh key, has it signed, and puts both in place; saved says where to keep them, "" for nowhere.
// It blocks as long as sign does.
func (i *Identity) Renew(ctx context.Context, sign func(ctx context.Context, csr []byte) (cert []byte, err error), dir string) error {
	key, err := NewKey()
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	csr, err := NewRequest(key, i.node)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	cert, err := sign(ctx, csr)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	if err := i.Replace(key, cert); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	if dir == "" {
		return nil
	}
	return i.Save(dir)
}

// Renewal says how a certificate is kept fresh.
type Renewal struct {
	// Sign has a request signed by the cluster's authority.
	Sign func(ctx context.Context, csr []byte) (cert []byte, err error)
	// Dir keeps the identity; "" means nowhere.
	Dir string
	// Every is how often the clock is looked at, an hour if 0. Not one long timer: the wall clock may be set, the machine
	// may sleep.
	Every  time.Duration
	Logger *slog.Logger
}

// KeepFresh renews the certificate after two thirds of its time, and tries again each Every where that fails. It blocks until
// ctx ends.
func (i *Identity) KeepFresh(ctx context.Context, r Renewal) {
	if r.Every == 0 {
		r.Every = time.Hour
	}
	for {
		if time.Now().After(i.RenewAt()) {
			if err := i.Renew(ctx, r.Sign, r.Dir); err != nil && ctx.Err() == nil {
				r.Logger.Error("node certificate was not renewed", "expires", i.Expires(), "error", err)
			} else if err == nil {
				r.Logger.Info("node certificate renewed", "expires", i.Expires())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.Every/2 + rand.N(r.Every)): // spread, so that not all nodes ask at once
		}
	}
}
