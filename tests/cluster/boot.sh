# The first process of a host: gives it files of its own, runs its command, and reaps what that leaves.
#   HOST=NAME FOLDER=ITS_FILES SHARED=FOLDER KEEP='PATHS BELOW /tmp THAT STAY' sh boot.sh COMMAND …
# Runs in mount, PID, network and UTS namespaces that were just made: what it mounts ends with them.
set -eu
hostname "$HOST"
mkdir -p "$FOLDER/home" "$FOLDER/tmp"
chmod 1777 "$FOLDER/tmp"
for path in $KEEP; do
  mkdir -p "$FOLDER$path"
  mount --bind "$path" "$FOLDER$path"
done
mount --rbind "$FOLDER/tmp" /tmp
for own in /dev/shm /run /srv; do mount -t tmpfs tmpfs "$own"; done
mkdir -p /run/sshd /srv/raymd
mount --bind "$SHARED" /srv/raymd
# sshd takes root's home from here, and no account that is locked in the shadow file
sed "s,^\(root:.*:\)[^:]*:\([^:]*\)$,\1$FOLDER/home:\2," /etc/passwd > "$FOLDER/passwd"
echo 'root:*:20000:0:99999:7:::' > "$FOLDER/shadow"
for file in passwd shadow; do mount --bind "$FOLDER/$file" "/etc/$file"; done
"$@"
exit $? # a command that is last would take this process's place
