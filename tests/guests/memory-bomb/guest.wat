;; Takes memory until it is refused, touches all of it, and traps as a Rust allocator would.
(component
  (import "wasi:http/types@0.2.12" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $out))
  (core module $module
    (memory 1)
    (func (export "handle") (param i32 i32)
      (local $page i32)
      (loop $again
        (local.set $page (memory.grow (i32.const 16)))
        (if (i32.ne (local.get $page) (i32.const -1))
          (then
            (memory.fill (i32.shl (local.get $page) (i32.const 16)) (i32.const 1)
              (i32.const 0x100000))
            (br $again))))
      unreachable))
  (core instance $instance (instantiate $module))
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $instance "handle")))
  (instance (export "wasi:http/incoming-handler@0.2.12")
    (export "handle" (func $handle))))
