package pollux

import (
	"context"
	"time"

	"github.com/polluxhq/pollux/drivers/mqtt"
)

// grantCheckEvery is when connections of devices are looked at again: their keys expire, their twins' topics change.
const grantCheckEvery = time.Minute

// watchGrants closes MQTT connections whose key is gone: at once when it is deleted, within a minute when it expired or
// its twin's topics are others. A device then logs in again, with what it may do now.
func (n *Node) watchGrants(b *mqtt.Broker) {
	outdated := func(c mqtt.Client) bool { return !n.keys.Stands(n.engine.Registry(), c.Grant) }
	n.keys.OnChange(func(key string) {
		ended := b.Disconnect(func(c mqtt.Client) bool {
			return c.Grant != nil && (key == "" || c.Grant.Key == key) && outdated(c)
		})
		if ended > 0 {
			n.log.Info("mqtt connections of a revoked key closed", "key", key, "connections", ended)
		}
	})
	stop, done := make(chan struct{}), make(chan struct{})
	n.closeLater("mqtt grants", func(context.Context) error {
		n.keys.OnChange(nil)
		close(stop)
		<-done
		return nil
	})
	go func() {
		defer close(done)
		for tick := time.NewTicker(grantCheckEvery); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				if ended := b.Disconnect(outdated); ended > 0 {
					n.log.Info("mqtt connections with outdated rights closed", "connections", ended)
				}
			}
		}
	}()
}
