#!/bin/sh
# Make the password file from the environment, then become the broker.
set -eu
umask 077
: > /tmp/passwords
mosquitto_passwd -b /tmp/passwords centre "$CENTRE_PASSWORD"
for user in pump-house watchroom readers; do
  mosquitto_passwd -b /tmp/passwords "$user" "$GATEWAY_PASSWORD"
done
chown mosquitto /tmp/passwords
exec mosquitto -c /watchroom/mosquitto.conf
