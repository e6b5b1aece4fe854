package main

// Main lets the test binary be the ticket office.
var Main = main
