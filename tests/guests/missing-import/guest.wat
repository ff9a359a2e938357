;; Imports what no host of gw offers.
(component
  (import "wasi:keyvalue/store@0.2.0-draft" (instance
    (export "open" (func (param "identifier" string))))))
