;; Imports what no host of gw offers.
(component
  (import "wasi:keyvalue/store@0.2.0-draft2" (instance
    (export "open" (func (param "identifier" string))))))
