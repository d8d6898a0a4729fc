;; The shim makes a module of the contract twin1 out of the QuickJS engine: it exports drv_handle, imports the capabilities, and
;; gives JavaScript one native function that reaches them. It is merged with the engine by build.mjs.
;;
;; JavaScript values are QuickJS's: 64 bits, the tag in the upper half (0 integer, 3 undefined, 6 exception, -1 object), an
;; integer or a pointer in the lower. The SDK is a script that evaluates to a function of that native function, which returns the
;; functions that the shim calls: [loaded, handle, finish, rejection, stopped].
(module
  (import "qjs" "memory" (memory 0))
  (import "qjs" "__indirect_function_table" (table $table 0 funcref))
  (import "qjs" "wasm_malloc" (func $malloc (param i32) (result i32)))
  (import "qjs" "wasm_free" (func $free (param i32)))
  (import "qjs" "qjs_init" (func $qjs_init (result i32)))
  (import "qjs" "qjs_eval" (func $qjs_eval (param i32 i32 i32 i32) (result i32)))
  (import "qjs" "qjs_get_context_ptr" (func $context (result i32)))
  (import "qjs" "qjs_get_runtime_ptr" (func $runtime (result i32)))
  (import "qjs" "qjs_set_promise_rejection_handler" (func $watch_rejections (param i32)))
  (import "qjs" "qjs_set_interrupt_handler" (func $watch_time (param i32)))
  (import "qjs" "qjs_free_value" (func $free_handle (param i32)))
  (import "qjs" "qjs_set_max_stack_size" (func $max_stack (param i32)))
  (import "qjs" "JS_NewCFunction2" (func $new_function (param i32 i32 i32 i32 i32 i32) (result i64)))
  (import "qjs" "JS_Call" (func $call (param i32 i64 i64 i32 i32) (result i64)))
  (import "qjs" "JS_GetPropertyUint32" (func $element (param i32 i64 i32) (result i64)))
  (import "qjs" "JS_GetException" (func $exception (param i32) (result i64)))
  (import "qjs" "JS_HasException" (func $has_exception (param i32) (result i32)))
  (import "qjs" "JS_FreeValue" (func $free_value (param i32 i64)))
  (import "qjs" "JS_NewStringLen" (func $new_string (param i32 i32 i32) (result i64)))
  (import "qjs" "JS_NewUint8ArrayCopy" (func $new_bytes (param i32 i32 i32) (result i64)))
  (import "qjs" "JS_NewNumber" (func $new_number (param i32 f64) (result i64)))
  (import "qjs" "JS_GetUint8Array" (func $bytes_of (param i32 i32 i64) (result i32)))
  (import "qjs" "JS_ToCStringLen2" (func $string_of (param i32 i32 i64 i32) (result i32)))
  (import "qjs" "JS_FreeCString" (func $free_string (param i32 i32)))
  (import "qjs" "JS_ExecutePendingJob" (func $job (param i32 i32) (result i32)))

  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "js" "overdue" (func $overdue (result i32)))
  (import "js" "stopped" (func $host_stopped (param i32 i32)))
  (import "twin1" "input" (func $twin_input (param i32)))
  (import "twin1" "output" (func $twin_output (param i32 i32)))
  (import "twin1" "reply" (func $twin_reply (param i32)))
  ;;CAPABILITIES

  (elem (table $table) (i32.const FREE) func $native)

  (global $ctx (mut i32) (i32.const 0))
  (global $rt (mut i32) (i32.const 0))
  ;; 96 bytes: 0 arguments of calls, 32 lengths, 40 what js_load returns, 48 random bytes, 64 arguments of rejection
  (global $scratch (mut i32) (i32.const 0))
  (global $loaded (mut i64) (i64.const 0))
  (global $handle (mut i64) (i64.const 0))
  (global $finish (mut i64) (i64.const 0))
  (global $rejection (mut i64) (i64.const 0))
  (global $stopped (mut i64) (i64.const 0))
  (global $input_len (mut i32) (i32.const 0))
  ;; 1 once the engine was told to stop the running call
  (global $over (mut i32) (i32.const 0))

  ;; What the engine imports. Local time is UTC.
  (func (export "host_get_timezone_offset") (param i32 i32) (result i32) (i32.const 0))
  ;; Asked every 10,000 steps or so. After a 1 the engine throws what no script can catch: the call ends in $failed.
  (func (export "host_interrupt") (result i32)
    (global.set $over (call $overdue))
    (global.get $over))
  (func (export "host_promise_rejection") (param $promise i32) (param $reason i32) (param $handled i32)
    (i64.store offset=64 (global.get $scratch) (i64.load (local.get $promise)))
    (i64.store offset=72 (global.get $scratch) (i64.load (local.get $reason)))
    (i64.store offset=80 (global.get $scratch)
      (i64.or (i64.const 0x100000000) (i64.extend_i32_u (i32.ne (local.get $handled) (i32.const 0)))))
    (if (i64.ne (global.get $rejection) (i64.const 0)) (then
      (drop (call $call (global.get $ctx) (global.get $rejection) (i64.const 0x300000000) (i32.const 3)
        (i32.add (global.get $scratch) (i32.const 64))))))
    (call $free_handle (local.get $promise))
    (call $free_handle (local.get $reason)))
  (func (export "host_module_normalize") (param i32 i32) (result i32) (i32.const 0))
  (func (export "host_module_load") (param i32 i32) (result i32) (i32.const 0))
  (func (export "host_call") (param i32 i32 i32 i32 i32) (result i32) (i32.const 0))

  (func $is_exception (param $v i64) (result i32)
    (i64.eq (i64.shr_u (local.get $v) (i64.const 32)) (i64.const 6)))
  (func $int (param $n i32) (result i64) (i64.extend_i32_u (local.get $n)))

  ;; failed ends a call that threw through everything. Where the engine was told to stop it the host gets the stack, for which
  ;; the time that is left was kept; it does not return then.
  (func $failed (local $text i32)
    (if (global.get $over) (then
      (i64.store offset=16 (global.get $scratch) (call $exception (global.get $ctx)))
      (local.set $text (call $string_of (global.get $ctx) (i32.add (global.get $scratch) (i32.const 32))
        (call $call (global.get $ctx) (global.get $stopped) (i64.const 0x300000000) (i32.const 1)
          (i32.add (global.get $scratch) (i32.const 16)))
        (i32.const 0)))
      (call $host_stopped (local.get $text) (select (i32.load offset=32 (global.get $scratch)) (i32.const 0) (local.get $text)))))
    (unreachable))

  ;; js_alloc(bytes) gives the host room for a source.
  (func (export "js_alloc") (param $n i32) (result i32) (call $malloc (local.get $n)))

  ;; js_start(source, len) begins with the SDK, which is zero-terminated. It returns 0, or what did not work.
  (func (export "js_start") (param $source i32) (param $len i32) (result i32)
    (local $fn i64) (local $list i64) (local $native i64)
    (if (call $qjs_init) (then (unreachable)))
    (global.set $ctx (call $context))
    (global.set $rt (call $runtime))
    (call $max_stack (i32.const STACK))
    (call $watch_rejections (i32.const 1))
    (call $watch_time (i32.const 1))
    (global.set $scratch (call $malloc (i32.const 96)))
    (i64.store (global.get $scratch) (i64.const 0x6b6473)) ;; "sdk", the prelude's name in stack traces
    (local.set $fn (i64.load (call $qjs_eval (local.get $source) (local.get $len) (global.get $scratch) (i32.const 0))))
    (if (call $is_exception (local.get $fn)) (then (return (i32.const 1))))
    (local.set $native (call $new_function (global.get $ctx)
      (i32.const FREE) (global.get $scratch) (i32.const 4) (i32.const 0) (i32.const 0)))
    (i64.store (global.get $scratch) (local.get $native))
    (local.set $list (call $call (global.get $ctx) (local.get $fn) (i64.const 0x300000000) (i32.const 1) (global.get $scratch)))
    (if (call $is_exception (local.get $list)) (then (return (i32.const 2))))
    (global.set $loaded (call $element (global.get $ctx) (local.get $list) (i32.const 0)))
    (global.set $handle (call $element (global.get $ctx) (local.get $list) (i32.const 1)))
    (global.set $finish (call $element (global.get $ctx) (local.get $list) (i32.const 2)))
    (global.set $rejection (call $element (global.get $ctx) (local.get $list) (i32.const 3)))
    (global.set $stopped (call $element (global.get $ctx) (local.get $list) (i32.const 4)))
    (i32.const 0))

  ;; js_load(source, len, name) evaluates the driver, a module. It returns where {pointer, length} of loaded's result are.
  (func (export "js_load") (param $source i32) (param $len i32) (param $name i32) (result i32)
    (local $v i64)
    (local.set $v (i64.load (call $qjs_eval (local.get $source) (local.get $len) (local.get $name) (i32.const 1))))
    (i64.store (global.get $scratch) (i64.const 0x300000000))
    (i64.store offset=8 (global.get $scratch) (local.get $v))
    (if (call $is_exception (local.get $v)) (then
      (i64.store (global.get $scratch) (i64.const 0x100000001))
      (i64.store offset=8 (global.get $scratch) (call $exception (global.get $ctx)))))
    (drop (call $call (global.get $ctx) (global.get $loaded) (i64.const 0x300000000) (i32.const 2) (global.get $scratch)))
    (call $drain)
    (local.set $v (call $call (global.get $ctx) (global.get $loaded) (i64.const 0x300000000) (i32.const 0) (i32.const 0)))
    (i32.store offset=40 (global.get $scratch)
      (call $string_of (global.get $ctx) (i32.add (global.get $scratch) (i32.const 44)) (local.get $v) (i32.const 0)))
    (i32.add (global.get $scratch) (i32.const 40)))

  ;; drain runs what promises have waiting.
  (func $drain (local $more i32)
    (loop $next
      (local.set $more (call $job (global.get $rt) (i32.add (global.get $scratch) (i32.const 32))))
      (if (i32.lt_s (local.get $more) (i32.const 0)) (then
        (if (global.get $over) (then (call $failed)))
        (call $free_value (global.get $ctx) (call $exception (global.get $ctx)))))
      (br_if $next (local.get $more))))

  (func (export "drv_handle") (param $event i32) (param $len i32) (result i32)
    (local $v i64)
    (global.set $input_len (local.get $len))
    (global.set $over (i32.const 0))
    (i64.store (global.get $scratch) (call $int (local.get $event)))
    (local.set $v (call $call (global.get $ctx) (global.get $handle) (i64.const 0x300000000) (i32.const 1) (global.get $scratch)))
    (if (call $is_exception (local.get $v)) (then (call $failed)))
    (call $drain)
    (local.set $v (call $call (global.get $ctx) (global.get $finish) (i64.const 0x300000000) (i32.const 0) (i32.const 0)))
    (if (call $is_exception (local.get $v)) (then (call $failed)))
    (i32.wrap_i64 (local.get $v)))

  ;; value makes a JavaScript value of bytes: a string where want is 1, else a Uint8Array.
  (func $value (param $ptr i32) (param $len i32) (param $want i32) (result i64)
    (if (result i64) (i32.eq (local.get $want) (i32.const 1))
      (then (call $new_string (global.get $ctx) (local.get $ptr) (local.get $len)))
      (else (call $new_bytes (global.get $ctx) (local.get $ptr) (local.get $len)))))

  ;; pulled makes a value of what input (0) or reply (1) has for the guest.
  (func $pulled (param $which i32) (param $len i32) (param $want i32) (result i64)
    (local $buf i32) (local $v i64)
    (local.set $buf (call $malloc (i32.add (local.get $len) (i32.const 1))))
    (if (i32.eqz (local.get $buf)) (then (unreachable)))
    (if (local.get $which) (then (call $twin_reply (local.get $buf))) (else (call $twin_input (local.get $buf))))
    (local.set $v (call $value (local.get $buf) (local.get $len) (local.get $want)))
    (call $free (local.get $buf))
    (local.get $v))

  ;; native(operation, payload, want, prefix) is the one function that JavaScript is given. The payload is a string, which
  ;; counts as UTF-8, a Uint8Array, or undefined. Operations below 16 are the shim's own:
  ;;   0 output   1 input   2 bytes of a string   3 string of bytes   4 a random number from 0 to 1
  ;; the others are capabilities; prefix, where it is a positive integer, goes before the payload as four bytes. What they
  ;; answer is pulled as a string (want 1), a Uint8Array (2), or not (0); their result is it, or the code.
  (func $native (param $ctx i32) (param $this i64) (param $argc i32) (param $argv i32) (result i64)
    (local $op i32) (local $want i32) (local $v i64) (local $ptr i32) (local $len i32) (local $text i32) (local $buf i32)
    (local $code i32)
    (local.set $op (i32.load (local.get $argv)))
    (local.set $want (i32.load offset=16 (local.get $argv)))
    (local.set $v (i64.load offset=8 (local.get $argv)))
    (if (i32.eq (local.get $op) (i32.const 1))
      (then (return (call $pulled (i32.const 0) (global.get $input_len) (local.get $want)))))
    (if (i32.eq (local.get $op) (i32.const 4)) (then (return (call $random))))
    (if (i64.ne (i64.shr_u (local.get $v) (i64.const 32)) (i64.const 3)) (then
      (i32.store offset=32 (global.get $scratch) (i32.const 0))
      (if (i64.eq (i64.shr_s (local.get $v) (i64.const 32)) (i64.const -1))
        (then
          (local.set $ptr (call $bytes_of (local.get $ctx) (i32.add (global.get $scratch) (i32.const 32)) (local.get $v))))
        (else
          (local.set $text (call $string_of (local.get $ctx) (i32.add (global.get $scratch) (i32.const 32)) (local.get $v) (i32.const 0)))
          (local.set $ptr (local.get $text))))
      (if (i32.eqz (local.get $ptr)) (then
        (if (call $has_exception (local.get $ctx)) (then (return (i64.const 0x600000000))))))
      (local.set $len (i32.load offset=32 (global.get $scratch)))))
    (if (i32.lt_u (local.get $op) (i32.const 16))
      (then
        (local.set $v (i64.const 0x300000000))
        (if (i32.eqz (local.get $op)) (then (call $twin_output (local.get $ptr) (local.get $len))))
        (if (i32.eq (local.get $op) (i32.const 2))
          (then (local.set $v (call $new_bytes (local.get $ctx) (local.get $ptr) (local.get $len)))))
        (if (i32.eq (local.get $op) (i32.const 3))
          (then (local.set $v (call $new_string (local.get $ctx) (local.get $ptr) (local.get $len))))))
      (else
        (if (i64.eqz (i64.shr_u (i64.load offset=24 (local.get $argv)) (i64.const 32))) (then
          (local.set $buf (call $malloc (i32.add (local.get $len) (i32.const 4))))
          (if (i32.eqz (local.get $buf)) (then (unreachable)))
          (i32.store (local.get $buf) (i32.load offset=24 (local.get $argv)))
          (memory.copy (i32.add (local.get $buf) (i32.const 4)) (local.get $ptr) (local.get $len))
          (local.set $ptr (local.get $buf))
          (local.set $len (i32.add (local.get $len) (i32.const 4)))))
        (local.set $code (call $capability (local.get $op) (local.get $ptr) (local.get $len)))
        (if (local.get $buf) (then (call $free (local.get $buf))))
        (local.set $v (if (result i64) (i32.and (i32.gt_s (local.get $want) (i32.const 0)) (i32.ge_s (local.get $code) (i32.const 0)))
          (then (call $pulled (i32.const 1) (local.get $code) (local.get $want)))
          (else (call $int (local.get $code)))))))
    (if (local.get $text) (then (call $free_string (local.get $ctx) (local.get $text))))
    (local.get $v))

  (func $random (result i64)
    (drop (call $random_get (i32.add (global.get $scratch) (i32.const 48)) (i32.const 8)))
    (call $new_number (global.get $ctx) (f64.mul
      (f64.convert_i64_u (i64.shr_u (i64.load offset=48 (global.get $scratch)) (i64.const 11)))
      (f64.const 0x1p-53))))

  ;;DISPATCH
)
