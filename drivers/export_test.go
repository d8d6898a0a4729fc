package drivers

// Rules are the contract's, for tests that run a driver without the sandbox.
var Rules = rules
