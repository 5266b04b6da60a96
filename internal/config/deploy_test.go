package config_test

import "testing"

// TestDeployedConfigurationsLoad holds that what deploy/ hands out works as it is.
func TestDeployedConfigurationsLoad(t *testing.T) {
	for _, file := range glob(t, "../../deploy/*/config.yaml") {
		load(t, file)
	}
}
