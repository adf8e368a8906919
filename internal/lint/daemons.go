package lint

import (
	"net/netip"
	"slices"
	"strings"

	"bake/internal/lazy"
)

// daemonForms are the values of settings of systemd's daemons, by the kind of value.
var daemonForms = map[string]map[string]string{
	"Journal": {"size": "SystemMaxUse SystemKeepFree SystemMaxFileSize RuntimeMaxUse RuntimeKeepFree RuntimeMaxFileSize LineMax", "time": "SyncIntervalSec RateLimitIntervalSec MaxRetentionSec MaxFileSec",
		"bool": "Seal ReadKMsg ForwardToSyslog ForwardToKMsg ForwardToConsole ForwardToWall", "number": "RateLimitBurst SystemMaxFiles RuntimeMaxFiles",
		"emerg alert crit err warning notice info debug 0 1 2 3 4 5 6 7": "MaxLevelStore MaxLevelSyslog MaxLevelKMsg MaxLevelConsole MaxLevelWall", "uid login none": "SplitMode"},
	"Resolve": {"address": "DNS FallbackDNS", "BOOL allow-downgrade": "DNSSEC", "BOOL opportunistic": "DNSOverTLS", "BOOL resolve": "LLMNR MulticastDNS", "BOOL no-negative": "Cache", "BOOL udp tcp": "DNSStubListener", "bool": "ReadEtcHosts ResolveUnicastSingleLabel CacheFromLocalhost"},
	"Time":    {"time": "RootDistanceMaxSec PollIntervalMinSec PollIntervalMaxSec ConnectionRetrySec SaveIntervalSec"},
	"Login": {"bool": "KillUserProcesses RemoveIPC", "ignore poweroff reboot halt kexec suspend hibernate hybrid-sleep suspend-then-hibernate sleep lock factory-reset": "HandlePowerKey HandleRebootKey HandleSuspendKey HandleHibernateKey HandleLidSwitch HandleLidSwitchExternalPower HandleLidSwitchDocked IdleAction HandlePowerKeyLongPress",
		"time": "InhibitDelayMaxSec UserStopDelaySec HoldoffTimeoutSec IdleActionSec StopIdleSessionSec", "number": "NAutoVTs ReserveVT SessionsMax InhibitorsMax"},
	"Coredump": {"none external journal": "Storage", "bool": "Compress", "size": "ProcessSizeMax ExternalSizeMax JournalSizeMax MaxUse KeepFree"},
}

// daemonValue reports a value that a daemon of systemd's ignores.
func (w *world) daemonValue(at spot, section, key, value string) bool {
	if value == "" {
		return false
	}
	isBool := slices.Contains(words("yes no true false on off 1 0 y n t f"), strings.ToLower(value))
	for form, keys := range daemonForms[section] {
		if !slices.Contains(strings.Fields(keys), key) {
			continue
		}
		want := ""
		switch form {
		case "size":
			if !sizeText.MatchString(value) {
				want = "a size such as 500M or 1G"
			}
		case "time":
			if !timeSpan.MatchString(value) {
				want = "a time such as 30s or 1month"
			}
		case "bool":
			if !isBool {
				want = "yes or no"
			}
		case "number":
			if !onlyDigits(value) {
				want = "a number"
			}
		case "address":
			for _, text := range strings.Fields(value) {
				if !isServer(text) {
					want = "addresses, with blanks between them"
				}
			}
		default:
			known := strings.Fields(form)
			if !slices.Contains(known, value) && !(known[0] == "BOOL" && isBool) {
				want = cmpOr(near(value, known), "one of: "+strings.Replace(form, "BOOL", "yes no", 1))
			}
		}
		if want != "" {
			w.hint(want).report("file-syntax", at, "%s= cannot be %q: it is ignored", key, value)
			return true
		}
		return false
	}
	if section == "Journal" && key == "Storage" && (value == "none" || value == "volatile") {
		w.warn("journal-lost", at, "nothing of the log is left after a reboot, nor of the first boot")
		return true
	}
	return false
}

// isServer reports whether a text is the address of a name server, as resolved takes it.
func isServer(text string) bool {
	text, _, _ = strings.Cut(text, "#")
	text, _, _ = strings.Cut(text, "%")
	if host, _, ok := strings.Cut(strings.TrimPrefix(text, "["), "]"); ok {
		text = host
	} else if strings.Count(text, ":") == 1 {
		text, _, _ = strings.Cut(text, ":")
	}
	_, err := netip.ParseAddr(text)
	return err == nil
}

// logrotateNumbers take a number, and logrotateSizes one with a unit.
var (
	logrotateNumbers = words("rotate maxage minage start shredcycles")
	logrotateSizes   = words("size minsize maxsize")
)

func (w *world) checkLogrotateValue(at spot, word string, args []string) {
	first := strings.Join(args[:min(1, len(args))], "")
	switch {
	case slices.Contains(logrotateNumbers, word) && !lazy.Regexp(`^-?[0-9]+$`).MatchString(first):
		w.hint("a number").report("file-syntax", at, "%s cannot be %q: logrotate skips the file", word, first)
	case slices.Contains(logrotateSizes, word) && (len(args) != 1 || !lazy.Regexp(`^[0-9]+[kKMG]?$`).MatchString(strings.TrimPrefix(first, "="))):
		w.hint("such as 100M, without a blank").report("file-syntax", at, "%s cannot be %q: logrotate skips the file", word, strings.Join(args, " "))
	case (word == "create" || word == "su") && len(args) > 0:
		names := args
		if word == "create" && strings.Trim(first, "01234567") == "" {
			names = args[1:]
		}
		if len(names) > 0 && !w.knowsUser(names[0]) {
			w.warn("file-syntax", at, "nothing makes the user %s: logrotate skips the file", names[0])
		} else if len(names) > 1 && !w.knowsGroup(names[1]) && !w.knowsUser(names[1]) {
			w.warn("file-syntax", at, "nothing makes the group %s: logrotate skips the file", names[1])
		}
	}
}

// networkdKeys are those of sections that are written often; others are not looked at.
var networkdKeys = map[string][]string{
	"Match": words("Name MACAddress PermanentMACAddress Path Driver Type Kind Property WLANInterfaceType SSID BSSID Host Virtualization KernelCommandLine KernelVersion Version Credential Architecture Firmware OriginalName"),
	"Network": words(`Description DHCP DHCPServer LinkLocalAddressing IPv6LinkLocalAddressGenerationMode IPv6StableSecretAddress IPv4LLStartAddress IPv4LLRoute DefaultRouteOnDevice LLMNR MulticastDNS DNSOverTLS DNSSEC DNSSECNegativeTrustAnchors LLDP EmitLLDP BindCarrier Address
		Gateway DNS Domains DNSDefaultRoute NTP IPForward IPv4Forwarding IPv6Forwarding IPMasquerade IPv6PrivacyExtensions IPv6AcceptRA IPv6DuplicateAddressDetection IPv6HopLimit IPv4ReversePathFilter IPv4AcceptLocal IPv4RouteLocalnet IPv4ProxyARP IPv6ProxyNDP IPv6ProxyNDPAddress
		IPv6SendRA DHCPPrefixDelegation IPv6MTUBytes KeepMaster Bridge Bond VRF VLAN IPVLAN IPVTAP MACVLAN MACVTAP VXLAN Tunnel MACsec ActiveSlave PrimarySlave ConfigureWithoutCarrier IgnoreCarrierLoss KeepConfiguration BatmanAdvanced IPoIB Xfrm IPv6RetransmissionTimeSec MPLSRouting UseDomains`),
	"Address": words("Address Peer Broadcast Label PreferredLifetime Scope RouteMetric HomeAddress DuplicateAddressDetection ManageTemporaryAddress AddPrefixRoute AutoJoin NetLabel NFTSet"),
	"Route": words(`Gateway GatewayOnLink Destination Source Metric IPv6Preference Scope PreferredSource Table HopLimit Protocol Type InitialCongestionWindow InitialAdvertisedReceiveWindow QuickAck FastOpenNoCookie MTUBytes TCPAdvertisedMaximumSegmentSize TCPCongestionControlAlgorithm
		TTLPropagate MultiPathRoute NextHop TCPRetransmissionTimeoutSec`),
	"DHCPv4": words(`ClientIdentifier VendorClassIdentifier UserClass DUIDType DUIDRawData IAID Anonymize RequestOptions SendOption SendVendorOption IPServiceType SocketPriority Label UseDNS RoutesToDNS UseNTP RoutesToNTP UseSIP UseCaptivePortal UseMTU UseHostname SendHostname Hostname UseDomains UseRoutes
		RouteMetric RouteTable RouteMTUBytes UseGateway UseTimezone Use6RD FallbackLeaseLifetimeSec RequestBroadcast MaxAttempts ListenPort ServerPort DenyList AllowList SendRelease SendDecline NetLabel NFTSet IPv6OnlyMode RapidCommit QuickAck InitialCongestionWindow InitialAdvertisedReceiveWindow UseDNR BOOTP`),
	"IPv6AcceptRA": words("Token UseDNS UseDomains RouteTable RouteMetric UseMTU UseGateway UseRoutePrefix UseCaptivePortal UsePREF64 UseAutonomousPrefix UseOnLinkPrefix RouterDenyList RouterAllowList PrefixDenyList PrefixAllowList RouteDenyList RouteAllowList DHCPv6Client QuickAck UseHopLimit UseReachableTime UseRetransmissionTime UseICMP6RateLimit UseDNR UseRedirect NetLabel NFTSet"),
	"NetDev":       words("Name Kind MTUBytes MACAddress Description"),
}

// checkNetworkdKey reports a key that networkd ignores.
func (w *world) checkNetworkdKey(at spot, section, key string) {
	known := networkdKeys[section]
	if known == nil || slices.Contains(known, key) || strings.HasPrefix(key, "X-") {
		return
	}
	if hint := near2(key, known); hint != "" {
		w.hint(hint).report("file-syntax", at, "networkd knows no %s= in [%s], and ignores it", key, section)
	} else {
		w.warn("file-syntax", at, "networkd knows no %s= in [%s], and ignores it", key, section)
	}
}

// chronyWords begin a line of chrony's configuration.
var chronyWords = words(`acquisitionport allow authselectmode bindacqaddress bindacqdevice bindaddress bindcmdaddress binddevice broadcast clientloglimit clockprecision cmdallow cmddeny cmdport cmdratelimit combinelimit confdir corrtimeratio deny driftfile dscp
	dumpdir dumponexit fallbackdrift hwclockfile hwtimestamp hwtstimeout include initstepslew keyfile leapsecmode leapseclist leapsectz local lock_all log logbanner logchange logdir mailonchange makestep manual maxchange maxclockerror maxdistance maxdrift maxjitter maxntsconnections
	maxsamples maxslewrate maxtxbuffers maxupdateskew minsamples minsources nocerttimecheck noclientlog nosystemcert ntpsigndsocket ntsaeads ntscachedir ntsdumpdir ntsntpserver ntsport ntsprocesses ntsrefresh ntsrotate ntsratelimit ntsserverkey ntsservercert ntstrustedcerts peer pidfile pool port ptpport ptpdomain
	ratelimit refclock refresh reselectdist rtcautotrim rtcdevice rtcfile rtconutc rtcsync sched_priority server smoothtime sourcedir stratumweight tempcomp user`)

// chronyOptions are those of a server, pool or peer.
var chronyOptions = words(`minpoll maxpoll iburst burst key nts certset maxdelay maxdelayratio maxdelaydevratio maxdelayquant mindelay asymmetry offset minsamples maxsamples filter offline auto_offline prefer noselect trust require xleave polltarget port ntsport presend minstratum version copy extfield maxsources
	ipv4 ipv6 maxunreach`)

// checkChrony looks at chrony's configuration, of which one bad line ends it.
func (w *world) checkChrony(f *file) {
	for i, line := range f.lines() {
		fields := strings.Fields(line)
		at := f.at(i, 0, len(line))
		if len(fields) == 0 || strings.ContainsAny(fields[0][:1], "#%!;") {
			continue
		}
		switch word := strings.ToLower(fields[0]); {
		case !slices.Contains(chronyWords, word):
			w.hint(near(word, chronyWords)).report("ntp", at, "chrony knows no %s, and does not start", fields[0])
		case word == "makestep" && len(fields) != 3:
			w.hint("such as makestep 1 3").report("ntp", at, "makestep takes a number of seconds and a number of updates: chrony does not start")
		case slices.Contains(words("server pool peer"), word) && len(fields) < 2:
			w.report("ntp", at, "%s has no name: chrony does not start", word)
		case slices.Contains(words("server pool peer"), word):
			for _, option := range fields[2:] {
				if hint := near(option, chronyOptions); !slices.Contains(chronyOptions, option) && !lazy.Regexp(`^-?[0-9.]+$|^[A-Z]|^F[0-9a-f]+$`).MatchString(option) && hint != "" {
					w.hint(hint).report("ntp", at, "chrony knows no option %s of a %s, and does not start", option, word)
				}
			}
		}
	}
}
