;; A whole Spin application's component, small enough to read: it answers every request with 200
;; and a greeting. `@GREETING@` is replaced by the caller.
(component
  (import "wasi:io/error@0.2.0" (instance $io-error
    (export "error" (type (sub resource)))
  ))
  (alias export $io-error "error" (type $error))

  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $io-error (eq $outer-error)))
    (export "output-stream" (type $output-stream (sub resource)))
    (type $stream-error-cases
      (variant (case "last-operation-failed" (own $io-error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-cases)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))
  ))
  (alias export $streams "output-stream" (type $output-stream))

  (import "wasi:http/types@0.2.0" (instance $types
    (alias outer 1 $output-stream (type $outer-output-stream))
    (export "output-stream" (type $output-stream (eq $outer-output-stream)))
    (export "fields" (type $fields (sub resource)))
    (export "trailers" (type $trailers (eq $fields)))
    (export "incoming-request" (type (sub resource)))
    (export "outgoing-response" (type $outgoing-response (sub resource)))
    (export "outgoing-body" (type $outgoing-body (sub resource)))
    (export "response-outparam" (type $response-outparam (sub resource)))

    (type $header-error-cases
      (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $header-error (eq $header-error-cases)))
    (type $text (option string))
    (type $size (option u32))
    (type $length (option u64))
    (type $dns-fields (record (field "rcode" $text) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $dns-fields)))
    (type $alert-fields (record (field "alert-id" (option u8)) (field "alert-message" $text)))
    (export "TLS-alert-received-payload" (type $alert (eq $alert-fields)))
    (type $field-fields (record (field "field-name" $text) (field "field-size" $size)))
    (export "field-size-payload" (type $field (eq $field-fields)))
    (type $field-or-none (option $field))
    (type $error-code-cases (variant
      (case "DNS-timeout")
      (case "DNS-error" $dns)
      (case "destination-not-found")
      (case "destination-unavailable")
      (case "destination-IP-prohibited")
      (case "destination-IP-unroutable")
      (case "connection-refused")
      (case "connection-terminated")
      (case "connection-timeout")
      (case "connection-read-timeout")
      (case "connection-write-timeout")
      (case "connection-limit-reached")
      (case "TLS-protocol-error")
      (case "TLS-certificate-error")
      (case "TLS-alert-received" $alert)
      (case "HTTP-request-denied")
      (case "HTTP-request-length-required")
      (case "HTTP-request-body-size" $length)
      (case "HTTP-request-method-invalid")
      (case "HTTP-request-URI-invalid")
      (case "HTTP-request-URI-too-long")
      (case "HTTP-request-header-section-size" $size)
      (case "HTTP-request-header-size" $field-or-none)
      (case "HTTP-request-trailer-section-size" $size)
      (case "HTTP-request-trailer-size" $field)
      (case "HTTP-response-incomplete")
      (case "HTTP-response-header-section-size" $size)
      (case "HTTP-response-header-size" $field)
      (case "HTTP-response-body-size" $length)
      (case "HTTP-response-trailer-section-size" $size)
      (case "HTTP-response-trailer-size" $field)
      (case "HTTP-response-transfer-coding" $text)
      (case "HTTP-response-content-coding" $text)
      (case "HTTP-response-timeout")
      (case "HTTP-upgrade-failed")
      (case "HTTP-protocol-error")
      (case "loop-detected")
      (case "configuration-error")
      (case "internal-error" $text)))
    (export "error-code" (type $error-code (eq $error-code-cases)))

    (export "[static]fields.from-list" (func
      (param "entries" (list (tuple string (list u8))))
      (result (result (own $fields) (error $header-error)))))
    (export "[constructor]outgoing-response" (func
      (param "headers" (own $fields)) (result (own $outgoing-response))))
    (export "[method]outgoing-response.body" (func
      (param "self" (borrow $outgoing-response)) (result (result (own $outgoing-body)))))
    (export "[method]outgoing-body.write" (func
      (param "self" (borrow $outgoing-body)) (result (result (own $output-stream)))))
    (export "[static]outgoing-body.finish" (func
      (param "this" (own $outgoing-body)) (param "trailers" (option (own $trailers)))
      (result (result (error $error-code)))))
    (export "[static]response-outparam.set" (func
      (param "param" (own $response-outparam))
      (param "response" (result (own $outgoing-response) (error $error-code)))))
  ))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  ;; The memory has a module of its own: what the imports are lowered with must exist before the
  ;; module that imports them.
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "content-type")
    (data (i32.const 16) "text/plain; charset=utf-8")
    ;; 48: list<tuple<string, list<u8>>> with one element
    (data (i32.const 48) "\00\00\00\00\0c\00\00\00\10\00\00\00\19\00\00\00")
    (data (i32.const 128) "@GREETING@")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      unreachable) ;; nothing that is called here returns a list
  )
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))

  (core func $from-list (canon lower (func $types "[static]fields.from-list")
    (memory $mem) (realloc $realloc)))
  (core func $new-response (canon lower (func $types "[constructor]outgoing-response")))
  (core func $body (canon lower (func $types "[method]outgoing-response.body") (memory $mem)))
  (core func $stream (canon lower (func $types "[method]outgoing-body.write") (memory $mem)))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $mem) (realloc $realloc)))
  (core func $finish (canon lower (func $types "[static]outgoing-body.finish")
    (memory $mem) (realloc $realloc)))
  (core func $set (canon lower (func $types "[static]response-outparam.set")
    (memory $mem) (realloc $realloc)))
  (core func $drop-request (canon resource.drop $incoming-request))
  (core func $drop-stream (canon resource.drop $output-stream))

  (core module $main
    (import "host" "from-list" (func $from-list (param i32 i32 i32)))
    (import "host" "new-response" (func $new-response (param i32) (result i32)))
    (import "host" "body" (func $body (param i32 i32)))
    (import "host" "stream" (func $stream (param i32 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "finish" (func $finish (param i32 i32 i32 i32)))
    (import "host" "set" (func $set
      (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "drop-request" (func $drop-request (param i32)))
    (import "host" "drop-stream" (func $drop-stream (param i32)))
    (import "host" "memory" (memory 1))

    ;; Results arrive at 64: a tag, and for handles the payload at 68.
    (func $taken (result i32)
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (i32.load (i32.const 68)))

    (func (export "handle") (param $request i32) (param $outparam i32)
      (local $response i32) (local $body i32) (local $stream i32)
      (call $drop-request (local.get $request))
      (call $from-list (i32.const 48) (i32.const 1) (i32.const 64))
      (local.set $response (call $new-response (call $taken)))
      (call $body (local.get $response) (i32.const 64))
      (local.set $body (call $taken))
      (call $set (local.get $outparam) (i32.const 0) (local.get $response)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $stream (local.get $body) (i32.const 64))
      (local.set $stream (call $taken))
      (call $write (local.get $stream) (i32.const 128) (i32.const @LENGTH@) (i32.const 64))
      (if (i32.eqz (i32.load8_u (i32.const 64)))
        (then
          (call $drop-stream (local.get $stream))
          (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 64)))))
  )
  (core instance $main (instantiate $main (with "host" (instance
    (export "from-list" (func $from-list))
    (export "new-response" (func $new-response))
    (export "body" (func $body))
    (export "stream" (func $stream))
    (export "write" (func $write))
    (export "finish" (func $finish))
    (export "set" (func $set))
    (export "drop-request" (func $drop-request))
    (export "drop-stream" (func $drop-stream))
    (export "memory" (memory $mem))
  ))))

  (func $handle
    (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $main "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler))
)
