package drivers

// Rules are the contract's, for tests that run a driver without the sandbox.
var Rules = rules

// RenderHTTP is the answer of the capability http.
var RenderHTTP = renderHTTP
