//go:build !wasip1

package twin

// Serve registers the driver that drv_handle runs. Natively it does nothing, but where the environment has SchemasTo: tests drive the
// driver itself.
func Serve[S, M any](d *Driver[S, M]) { writeSchemas(d) }

func call(h Host, capability string, request []byte) int32 {
	code, _ := h.Call(capability, request)
	return code
}

func callSend(h Host, b []byte) int32     { return call(h, "send", b) }
func callPublish(h Host, b []byte) int32  { return call(h, "publish", b) }
func callStateSet(h Host, b []byte) int32 { return call(h, "state_set", b) }
func callSchedule(h Host, b []byte) int32 { return call(h, "schedule", b) }
func callEmit(h Host, b []byte) int32     { return call(h, "emit", b) }
func callLog(h Host, b []byte) int32      { return call(h, "log", b) }
func callDescribe(h Host, b []byte) int32 { return call(h, "describe", b) }
func callDiscover(h Host, b []byte) int32 { return call(h, "discover", b) }

func callSubscribe(h Host, b []byte) int32  { return call(h, "subscribe", b) }
func callConnection(h Host, b []byte) int32 { return call(h, "connection", b) }

func callRequest(h Host, b []byte) (int32, []byte) { return h.Call("request", b) }
func callHTTP(h Host, b []byte) (int32, []byte)    { return h.Call("http", b) }
func callTwin(h Host, b []byte) (int32, []byte)    { return h.Call("call", b) }
func callStateGet(h Host) (int32, []byte)          { return h.Call("state_get", nil) }
func callSetting(h Host, b []byte) (int32, []byte) { return h.Call("setting", b) }
