#!/bin/sh
# Makes what nodes need to trust each other and their clients: an authority, a certificate for
# each node, a token for each role, and a folder for each service that holds its own alone.
#
#   setup.sh DIR         makes what is missing, and changes nothing else
#   setup.sh DIR renew   issues the certificates of the nodes anew; then restart one after the other
set -eu
umask 077

if [ "$#" -lt 1 ] || [ "$#" -gt 2 ] || [ "${2:-renew}" != renew ]; then
    echo "usage: setup.sh DIR [renew]" >&2
    exit 2
fi
cd "$1"

# What was cut off half way is made again: it counts once it is whole and in its place.
if [ ! -e authority ]; then
    rm -rf authority.new
    tq-node certificates authority authority.new
    mv authority.new authority
fi

token() { # PRINCIPAL ROLE
    if [ ! -s "authority/$1.token" ]; then
        tq-node tokens new "$1" --role "$2" --file authority/tokens >"authority/$1.token.new"
        mv "authority/$1.token.new" "authority/$1.token"
    fi
}

give() { # SOURCE TARGET MODE
    if ! cmp -s "$1" "$2"; then
        cp "$1" "$2.new"
        chmod "$3" "$2.new"
        mv "$2.new" "$2"
    fi
}

token worker client
token prometheus metrics
token admin admin

for id in 1 2 3; do
    if [ "${2:-}" = renew ] || [ ! -s "authority/node-$id.pem" ]; then
        rm -f "authority/node-$id.pem" "authority/node-$id.key"
        tq-node certificates issue authority --id "$id" \
            --address "tq-$id" --address localhost --address 127.0.0.1
    fi
    mkdir -p "tq-$id"
    give authority/ca.pem "tq-$id/ca.pem" 644
    give "authority/node-$id.pem" "tq-$id/node.pem" 644
    give "authority/node-$id.key" "tq-$id/node.key" 600
    give authority/tokens "tq-$id/tokens" 600
done

# Prometheus runs as a user of its own, who is given the group of these files.
for name in worker prometheus admin; do
    mkdir -p "$name"
    chmod 750 "$name"
    give authority/ca.pem "$name/ca.pem" 644
    give "authority/$name.token" "$name/token" 640
done
