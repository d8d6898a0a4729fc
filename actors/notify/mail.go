package notify

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// mailWay sends by SMTP (RFC 5321), one connection for each mail. A mail's Message-ID is made of its key, so that a repetition has
// the same one, by which mailboxes know it.
type mailWay struct {
	conf   *pb.MailNotifier
	client *mail.Client
}

// transportOf gives the security and the port, as they are where the notifier names none.
func transportOf(m *pb.MailNotifier) (security pb.MailSecurity, port int) {
	security = m.Security
	switch security {
	case pb.MailSecurity_MAIL_SECURITY_TLS:
		port = 465
	case pb.MailSecurity_MAIL_SECURITY_NONE:
		port = 25
	default:
		security, port = pb.MailSecurity_MAIL_SECURITY_STARTTLS, 587
	}
	if m.Port != 0 {
		port = int(m.Port)
	}
	return security, port
}

func newMail(m *pb.MailNotifier, password string) (*mailWay, error) {
	conf := &tls.Config{ServerName: m.Host, MinVersion: tls.VersionTLS12}
	if m.Ca != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pool.AppendCertsFromPEM([]byte(m.Ca))
		conf.RootCAs = pool
	}
	opts := []mail.Option{mail.WithTLSConfig(conf), mail.WithTimeout(30 * time.Second)}
	security, port := transportOf(m)
	switch security {
	case pb.MailSecurity_MAIL_SECURITY_TLS:
		opts = append(opts, mail.WithSSL())
	case pb.MailSecurity_MAIL_SECURITY_NONE:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	opts = append(opts, mail.WithPort(port))
	if m.User != "" {
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(m.User), mail.WithPassword(password))
	}
	c, err := mail.NewClient(m.Host, opts...)
	if err != nil {
		return nil, err
	}
	return &mailWay{conf: m, client: c}, nil
}

func (w *mailWay) deliver(ctx context.Context, x *letter) (string, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := m.From(w.conf.From); err != nil {
		return "", fmt.Errorf("%w: from: %w", errRefused, err)
	}
	if err := m.To(x.to); err != nil {
		return "", fmt.Errorf("%w: %w", errRefused, err)
	}
	m.Subject(x.subject)
	m.SetMessageIDWithValue(w.messageID(x.key))
	m.SetDateWithValue(x.n.Time.AsTime())
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody is to answer by himself
	if x.n.Urgent {
		m.SetImportance(mail.ImportanceHigh)
	}
	m.SetBodyString(mail.TypeTextPlain, x.body)
	for _, f := range x.files {
		if err := m.AttachReader(f.name, strings.NewReader(string(f.data)), mail.WithFileContentType(mail.ContentType(f.kind))); err != nil {
			return "", fmt.Errorf("attach %s: %w", f.name, err)
		}
	}
	err := w.client.DialAndSendWithContext(ctx, m)
	if m.IsDelivered() { // whatever became of the connection
		return receiptOf(m.ServerResponse()), nil
	}
	var failed *mail.SendError
	if errors.As(err, &failed) && failed.ErrorCode()/100 == 5 {
		return "", fmt.Errorf("%w: %w", errRefused, err)
	}
	return "", err
}

// messageID has the host of the sender's address.
func (w *mailWay) messageID(key string) string {
	host := "pollux.invalid"
	if a, err := netmail.ParseAddress(w.conf.From); err == nil {
		if _, at, ok := strings.Cut(a.Address, "@"); ok {
			host = at
		}
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + "@" + host
}

// receiptOf is what a server said when it took a mail. That it took it is a receipt, also where it did not say anything.
func receiptOf(text string) string {
	if text = strings.TrimSpace(text); text != "" {
		return text
	}
	return "250"
}

func (w *mailWay) close() {}
