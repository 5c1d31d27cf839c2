// The controller of kube-network-policies, asked by rules of our own.
//
// Its own rules ask about packets that leave for elsewhere, so that pods reach all of the node they run on, and they
// need an nftables expression that not every kernel has. Ours ask where a packet comes in, right after the address of
// a Service became that of a pod or of the node.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	core "k8s.io/client-go/informers/core/v1"
	networking "k8s.io/client-go/informers/networking/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

const (
	queue      = 100
	queues     = "/proc/net/netfilter/nfnetlink_queue"
	pause      = 50 * time.Millisecond
	register   = 1
	afterNames = 5 // behind kube-proxy's chain, which translates addresses
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "who asks the API server")
	node := flag.String("node", "", "the node's name")
	table := flag.String("table", "", "the nftables table")
	bridge := flag.String("bridge", "", "the device behind which all pods are")
	pods := flag.String("pods", "", "the pods' IPv4 subnet")
	listen := flag.String("listen", "", "address and port of /healthz, which answers once rules are in force")
	flag.Parse()
	_, subnet, err := net.ParseCIDR(*pods)
	if err == nil {
		var client kubernetes.Interface
		client, err = connect(*kubeconfig)
		if err == nil {
			err = run(context.Background(), client, *node, *table, *bridge, subnet, *listen)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func connect(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	// In JSON an empty list of rules, which allows nothing, would not be told from none.
	config.ContentType = runtime.ContentTypeProtobuf
	return kubernetes.NewForConfig(config)
}

// run enforces policies until something fails.
func run(
	ctx context.Context, client kubernetes.Interface, node, table, bridge string, pods *net.IPNet, listen string,
) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	controller, err := networkpolicy.NewController(
		client,
		quietPolicies{factory.Networking().V1().NetworkPolicies()},
		factory.Core().V1().Namespaces(),
		quietPods{factory.Core().V1().Pods()},
		nil, nil, nil, nil,
		networkpolicy.Config{QueueID: queue, NodeName: node, NFTableName: table},
	)
	if err != nil {
		return err
	}
	ended := make(chan error)
	go func() { ended <- controller.Run(ctx) }()
	factory.Start(ctx.Done())
	go func() {
		err := listening()
		if err == nil {
			err = enforce(table, bridge, pods)
		}
		if err == nil {
			http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
			err = http.ListenAndServe(listen, nil)
		}
		ended <- err
	}()
	return <-ended
}

// listening waits until the controller takes packets, which it does after it wrote its own rules.
func listening() error {
	for {
		text, err := os.ReadFile(queues)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if fields := strings.Fields(line); len(fields) > 0 && fields[0] == strconv.Itoa(queue) {
				return nil
			}
		}
		time.Sleep(pause)
	}
}

// enforce puts our rules in the place of the controller's.
func enforce(table, bridge string, pods *net.IPNet) error {
	err := replace(table, bridge, pods, &expr.Queue{Num: queue})
	if err == nil {
		return nil
	}
	// A kernel without nft_queue has the same as an extension of iptables, which takes the number alone.
	number := xt.Unknown(binaryutil.NativeEndian.PutUint64(queue))
	return replace(table, bridge, pods, &expr.Target{Name: "NFQUEUE", Info: &number})
}

func replace(name, bridge string, pods *net.IPNet, ask expr.Any) error {
	connection, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
	connection.AddTable(table)
	connection.DelTable(table)
	connection.AddTable(table)
	chain := connection.AddChain(&nftables.Chain{
		Name:     "prerouting",
		Table:    table,
		Type:     nftables.ChainTypeFilter,
		Hooknum:  nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest + afterNames),
	})
	fromNode := matches(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, []byte("lo\x00"))
	fromPods := matches(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, append([]byte(bridge), 0))
	version4 := matches(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, []byte{unix.NFPROTO_IPV4})
	version6 := matches(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, []byte{unix.NFPROTO_IPV6})
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	for _, rule := range [][]expr.Any{
		// The node's components talk to each other whatever becomes of this one; their address is one of the subnet.
		slices.Concat(fromNode, accept),
		// Pods have no address of version 6 but the one that the kernel gives every device, and no policy knows it.
		slices.Concat(fromPods, version6, drop),
		slices.Concat(known(), accept),
		slices.Concat(fromPods, []expr.Any{ask}),
		slices.Concat(version4, to(pods), []expr.Any{ask}),
	} {
		connection.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	}
	return connection.Flush()
}

// matches is true where what is read has that value.
func matches(read expr.Any, value []byte) []expr.Any {
	return []expr.Any{read, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: value}}
}

// known is true for what belongs to a connection that was let through.
func known() []expr.Any {
	mask := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}
}

// to is true for packets to a subnet.
func to(subnet *net.IPNet) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: subnet.Mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: subnet.IP.To4()},
	}
}

// quietPolicies and quietPods are informers by which the controller knows all objects, and hears of no change: it
// would only write its own rules again.
type (
	quietPolicies struct {
		networking.NetworkPolicyInformer
	}
	quietPods struct{ core.PodInformer }
	quiet     struct{ cache.SharedIndexInformer }
)

func (informer quietPolicies) Informer() cache.SharedIndexInformer {
	return quiet{informer.NetworkPolicyInformer.Informer()}
}

func (informer quietPods) Informer() cache.SharedIndexInformer {
	return quiet{informer.PodInformer.Informer()}
}

func (quiet) AddEventHandler(cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return nil, nil
}
