package peer

import (
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// MQTT gives the options of a device that is a client of a broker at HOST:PORT: MQTT 3.1.1, a ping each 30 s; a connection that fails or is
// lost is tried again after 1 s, and after 5 s at most.
func MQTT(broker, id, user, password string) *paho.ClientOptions {
	return paho.NewClientOptions().AddBroker("tcp://" + broker).SetClientID(id).SetUsername(user).SetPassword(password).
		SetProtocolVersion(4).SetKeepAlive(30 * time.Second).
		SetConnectRetry(true).SetConnectRetryInterval(time.Second).SetMaxReconnectInterval(5 * time.Second)
}
