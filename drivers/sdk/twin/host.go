package twin

// Host answers a driver's capabilities where it runs natively, in tests. In the sandbox it is not used, and nil.
type Host interface {
	// Call makes one call of a capability, named as in the contract. The reply is valid until the next call.
	Call(capability string, request []byte) (code int32, reply []byte)
}
