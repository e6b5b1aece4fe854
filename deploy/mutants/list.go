package main

import "slices"

// mutants are the guards that must not be lost, each with the test that misses it.
var mutants = slices.Concat(engineMutants, storeMutants, systemsMutants, peopleMutants, observeMutants, failoverMutants,
	webhooksMutants, petstoreMutants, neighbourMutants)
