#!/usr/bin/env bash
# Installs what Lockstep runs on and what this machine lacks: MariaDB, Redis and
# HAProxy as plain programs, and the C compiler that `go test -race` needs. With
# --tests also a browser, Node and a Korean font, for the tests of the pages, and
# promtool, which comes with Prometheus, for those of the alert rules.
#
# The local cluster starts its own servers with its own files. So no system
# service may begin to run because of us: units of packages that this script
# installs are kept from starting and disabled; all others are left alone.
set -euo pipefail

readonly go_min_minor=26 mariadb_min=10.11 haproxy_min=2.6

# Servers live in /usr/sbin, which is not on every ordinary user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

usage() {
	cat <<'USAGE'
usage: deploy/install.sh [--tests] [--check]

Installs the packages that Lockstep needs and this machine lacks (Debian and
Ubuntu by apt-get, with sudo unless root; macOS by Homebrew, which is untested).
Does nothing when all is there. --tests adds what only the tests need: Chromium,
Node, a Korean font and promtool. --check installs nothing and fails, naming what is
missing.
USAGE
}

say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

check_go() {
	have go || die "Go 1.$go_min_minor or newer is missing (or not on PATH): https://go.dev/dl/"
	local version minor
	version=$(cd "$(dirname "${BASH_SOURCE[0]}")" && go env GOVERSION) ||
		die "'go env GOVERSION' failed: Go 1.$go_min_minor or newer is needed, https://go.dev/dl/"
	minor=${version#go1.}
	minor=${minor%%[!0-9]*}
	[ "${minor:-0}" -ge "$go_min_minor" ] ||
		die "$version is too old: Go 1.$go_min_minor or newer is needed, https://go.dev/dl/"
}

# missing_packages prints the Debian name of each package whose program is not
# here. Programs are asked for, not packages: a server that somebody built or
# installed another way is as good.
missing_packages() {
	have mariadbd && have mariadb-install-db || echo mariadb-server-core
	have mariadb && have my_print_defaults || echo mariadb-client-core
	have redis-server || echo redis-server
	have haproxy || echo haproxy
	have gcc || echo gcc
	[ "$(uname)" != Linux ] || [ -e /usr/include/stdlib.h ] || echo libc6-dev
	[ "$(uname)" != Linux ] || [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
	have make || echo make
	[ "$tests" = no ] || missing_for_tests
}

# missing_for_tests: the pages are tested in a real browser, which Node drives, and their Korean is looked at; promtool
# checks the alert rules.
missing_for_tests() {
	have chromium || have chromium-browser || have google-chrome || echo chromium
	have node || echo nodejs
	have npm || echo npm
	have promtool || echo prometheus
	[ "$(uname)" != Linux ] || [ -n "$(fc-list :lang=ko 2>/dev/null | head -n 1)" ] || echo fonts-nanum
}

# at_least A B: version A is B or newer; both have two numbers.
at_least() {
	[ "${1%.*}" -gt "${2%.*}" ] || { [ "${1%.*}" -eq "${2%.*}" ] && [ "${1#*.}" -ge "${2#*.}" ]; }
}

check_versions() {
	local text
	text=$(mariadbd --no-defaults --version)
	case $text in
	*MariaDB*) ;;
	*) die "mariadbd is not MariaDB: $text" ;;
	esac
	[[ $text =~ Ver\ ([0-9]+\.[0-9]+) ]] && at_least "${BASH_REMATCH[1]}" "$mariadb_min" ||
		die "MariaDB $mariadb_min or newer is needed (package mariadb-server-core), here is: $text"
	text=$(haproxy -v)
	text=${text%%$'\n'*}
	[[ $text =~ version\ ([0-9]+\.[0-9]+) ]] && at_least "${BASH_REMATCH[1]}" "$haproxy_min" ||
		die "HAProxy $haproxy_min or newer is needed (package haproxy), here is: $text"
}

# as_root runs a command as root; needs_root has made sure that it can.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

needs_root() {
	[ "$(id -u)" -eq 0 ] && return
	have sudo || die "missing: $*; run 'apt-get install $*' as root (you are not root, and there is no sudo)"
	sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; } ||
		die "missing: $*; sudo asks for a password: run deploy/install.sh in a terminal, or 'apt-get install $*' as root"
}

readonly policy=/usr/sbin/policy-rc.d
guard_ours=no
log=

# forbid_starts keeps maintainer scripts from starting daemons while we install,
# unless the machine has such a policy already: that one is the owner's.
forbid_starts() {
	[ -e "$policy" ] && return
	printf '#!/bin/sh\n# temporary, by lockstep deploy/install.sh\nexit 101\n' | as_root tee "$policy" >/dev/null
	guard_ours=yes
	as_root chmod 755 "$policy"
}

cleanup() {
	if [ "$guard_ours" = yes ]; then as_root rm -f "$policy"; fi
	guard_ours=no
}

# disable_units switches off the units that a package just brought, so that they
# do not start at the next boot either.
disable_units() {
	have systemctl || return 0
	local unit
	for unit in $(dpkg -L "$1" | sed -n 's#^\(/usr\)\{0,1\}/lib/systemd/system/\([^@/]*\.service\)$#\2#p'); do
		as_root systemctl disable "$unit" >>"$log" 2>&1 || true
		[ -d /run/systemd/system ] || continue
		as_root systemctl stop "$unit" >>"$log" 2>&1 || true
	done
}

# install_one installs one package, so that a failure can be told by its name.
# --no-remove: a MySQL that the owner runs is not ours to replace.
install_one() {
	say "installing $1"
	as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get install -y -q \
		--no-install-recommends --no-remove -o DPkg::Lock::Timeout=120 "$1" </dev/null >>"$log" 2>&1 ||
		die "could not install package $1: $(grep -m 1 '^E:' "$log") (all of it: $log)"
	disable_units "$1"
}

install_debian() {
	needs_root "$*"
	log=$(mktemp "${TMPDIR:-/tmp}/lockstep-install.XXXXXX")
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	say "missing: $*; reading the package lists"
	as_root apt-get update -q -o DPkg::Lock::Timeout=120 </dev/null >>"$log" 2>&1 ||
		say "apt-get update failed (see $log); trying with the lists at hand"
	forbid_starts
	local package
	for package in "$@"; do install_one "$package"; done
	cleanup
}

# Untested: no Mac was at hand.
install_homebrew() {
	have brew || die "missing: $*; install Homebrew (https://brew.sh) and run deploy/install.sh again"
	local package
	for package in "$@"; do
		case $package in
		mariadb-server-core | mariadb-client-core) package=mariadb ;;
		redis-server) package=redis ;;
		nodejs | npm) package=node ;;
		chromium) package=--cask=chromium ;;
		gcc | make) die "missing: $package; run 'xcode-select --install'" ;;
		esac
		say "installing $package"
		brew install "$package" >&2 || die "could not install package $package with Homebrew"
	done
}

tests=no

main() {
	local check=no missing=() argument
	for argument in "$@"; do
		case $argument in
		--tests) tests=yes ;;
		--check) check=yes ;;
		-h | --help) usage; exit 0 ;;
		*) usage >&2; exit 2 ;;
		esac
	done
	check_go
	# shellcheck disable=SC2207 # package names have no blanks
	missing=($(missing_packages))
	if [ ${#missing[@]} -gt 0 ]; then
		[ "$check" = no ] || die "missing: ${missing[*]}; run deploy/install.sh$([ "$tests" = no ] || echo " --tests")"
		if have apt-get; then
			install_debian "${missing[@]}"
		elif [ "$(uname)" = Darwin ]; then
			install_homebrew "${missing[@]}"
		else
			die "missing: ${missing[*]}; neither apt-get nor Homebrew is here, install these another way"
		fi
		hash -r
		# shellcheck disable=SC2207
		missing=($(missing_packages))
		[ ${#missing[@]} -eq 0 ] || die "installed, but its program is still not found: ${missing[*]}"
		[ -z "$log" ] || rm -f "$log"
		say "all is there"
	fi
	check_versions
}

main "$@"
