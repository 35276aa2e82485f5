package api

// MaxInHand is how many requests are served or wait at once.
const MaxInHand = workers + queueSize
