// Command coredns is CoreDNS with only the plugins that a cluster's DNS needs.
//
// Upstream's command links every plugin (etcd, the clouds' DNS services, DNSSEC, …), which takes
// minutes to compile. The order of dnsserver.Directives is upstream's own and is left alone.
package main

import (
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"

	"github.com/coredns/coredns/coremain"
)

func main() {
	coremain.Run()
}
