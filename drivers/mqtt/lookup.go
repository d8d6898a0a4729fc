package mqtt

import "slices"

// Retained gives the retained messages that a filter matches, as a subscriber would get them: what a device said last
// before anybody was there to hear it. The messages belong to the caller; their Client is who sent them, User and
// Grant are not known any more. It does not block, and costs as much as it finds.
func (b *Broker) Retained(filter string) []*Message {
	if filter == "" || checkLength(filter, b.limits) != nil {
		return nil
	}
	found := b.server.Topics.Messages(filter)
	list := make([]*Message, 0, len(found))
	for i := range found {
		pk := &found[i]
		if !covers(filter, pk.TopicName) {
			continue
		}
		list = append(list, &Message{
			Client: pk.Origin, Topic: pk.TopicName, Payload: slices.Clone(pk.Payload), QoS: pk.FixedHeader.Qos, Retain: true,
		})
	}
	return list
}
