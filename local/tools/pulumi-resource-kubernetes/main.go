// The official provider, served from its library function: its own main embeds generated files that the module lacks.
package main

import (
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

// Both tables serve `pulumi package get-schema` and conversion from Terraform, which no deployment needs.
func main() {
	provider.Serve("kubernetes", version.Version, []byte("{}"), []byte("{}"))
}
