package tcp_test

import (
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

var lines = &drivers.Tokenizer{Delimiter: "\n", MaxFrame: 1000}

func TestContract(t *testing.T) {
	contract.Run(t, contract.Transport{
		Open: tcp.Open, Options: drivers.TransportOptions{Scheme: "tcp", Tokenizer: lines},
		NewPeer: func(t *testing.T) contract.Peer { return contract.NewStreamPeer(t, "tcp", nil) },
	})
}

func TestContractPerCommand(t *testing.T) {
	contract.Run(t, contract.Transport{
		Open: tcp.Open, Options: drivers.TransportOptions{Scheme: "tcp", Tokenizer: lines, PerCommand: true},
		NewPeer: func(t *testing.T) contract.Peer { return contract.NewStreamPeer(t, "tcp", nil) },
	})
}
