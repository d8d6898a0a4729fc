//go:build wasip1

package twin

import "unsafe"

// Each capability is imported only where a driver uses it: the linker drops the others, and the import list of a
// driver is what it asks for.

//go:wasmimport twin1 input
func hostInput(p unsafe.Pointer)

//go:wasmimport twin1 output
func hostOutput(p unsafe.Pointer, n uint32)

//go:wasmimport twin1 reply
func hostReply(p unsafe.Pointer)

//go:wasmimport twin1 send
func hostSend(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 request
func hostRequest(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 publish
func hostPublish(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 state_get
func hostStateGet(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 state_set
func hostStateSet(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 schedule
func hostSchedule(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 emit
func hostEmit(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 log
func hostLog(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 setting
func hostSetting(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 describe
func hostDescribe(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 discover
func hostDiscover(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 http
func hostHTTP(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 call
func hostCall(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 subscribe
func hostSubscribe(p unsafe.Pointer, n uint32) int32

//go:wasmimport twin1 connection
func hostConnection(p unsafe.Pointer, n uint32) int32

var (
	serve    func(event int32, input []byte) (int32, []byte)
	inputBuf = make([]byte, 0, 4096)
	replyBuf = make([]byte, 0, 4096)
)

// Serve registers the driver that drv_handle runs. Call it once, from an init function.
func Serve[S, M any](d *Driver[S, M]) {
	serve = func(event int32, input []byte) (int32, []byte) { return d.Handle(nil, event, input) }
}

//go:wasmexport drv_handle
func drvHandle(event, n int32) int32 {
	if serve == nil {
		panic("no driver: call twin.Serve from an init function")
	}
	inputBuf = sized(inputBuf, n)
	hostInput(ptr(inputBuf))
	code, output := serve(event, inputBuf)
	if len(output) > 0 {
		hostOutput(ptr(output), uint32(len(output)))
	}
	return code
}

func sized(b []byte, n int32) []byte {
	if cap(b) < int(n) {
		return make([]byte, n, int(n)+int(n)/2)
	}
	return b[:n]
}

func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func answer(code int32) (int32, []byte) {
	if code < 0 {
		return code, nil
	}
	replyBuf = sized(replyBuf, code)
	hostReply(ptr(replyBuf))
	return code, replyBuf
}

func callSend(_ Host, b []byte) int32     { return hostSend(ptr(b), uint32(len(b))) }
func callPublish(_ Host, b []byte) int32  { return hostPublish(ptr(b), uint32(len(b))) }
func callStateSet(_ Host, b []byte) int32 { return hostStateSet(ptr(b), uint32(len(b))) }
func callSchedule(_ Host, b []byte) int32 { return hostSchedule(ptr(b), uint32(len(b))) }
func callEmit(_ Host, b []byte) int32     { return hostEmit(ptr(b), uint32(len(b))) }
func callLog(_ Host, b []byte) int32      { return hostLog(ptr(b), uint32(len(b))) }
func callDescribe(_ Host, b []byte) int32 { return hostDescribe(ptr(b), uint32(len(b))) }
func callDiscover(_ Host, b []byte) int32 { return hostDiscover(ptr(b), uint32(len(b))) }

func callSubscribe(_ Host, b []byte) int32  { return hostSubscribe(ptr(b), uint32(len(b))) }
func callConnection(_ Host, b []byte) int32 { return hostConnection(ptr(b), uint32(len(b))) }

func callHTTP(_ Host, b []byte) (int32, []byte) { return answer(hostHTTP(ptr(b), uint32(len(b)))) }
func callTwin(_ Host, b []byte) (int32, []byte) { return answer(hostCall(ptr(b), uint32(len(b)))) }
func callRequest(_ Host, b []byte) (int32, []byte) {
	return answer(hostRequest(ptr(b), uint32(len(b))))
}
func callStateGet(_ Host) (int32, []byte) { return answer(hostStateGet(nil, 0)) }
func callSetting(_ Host, b []byte) (int32, []byte) {
	return answer(hostSetting(ptr(b), uint32(len(b))))
}
