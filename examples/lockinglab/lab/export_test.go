package lab

// Overtaking is tested by itself: no run keeps to a given order.
var Overtaking = overtaking
