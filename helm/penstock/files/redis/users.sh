# users.sh RULES SECRETS TARGET: write the users of RULES with the digests of their passwords.
set -eu
umask 077
while IFS= read -r line; do
  case $line in
    *' on #DIGEST '*)
      user=${line#user }
      password=$(cat "$2/redis_${user%% *}")
      if [ -z "$password" ]; then
        echo "the password of ${user%% *} is empty" >&2
        exit 1
      fi
      digest=$(printf %s "$password" | sha256sum)
      line="${line%%DIGEST*}${digest%% *}${line#*DIGEST}"
      ;;
  esac
  printf '%s\n' "$line"
done <"$1" >"$3"
