# Put axe-core's script, which the tests of pages check accessibility with, where they look for it: in .venv/axe.
set -eu
cd "$(dirname "$0")/.."
VERSION=4.14.1
SHA256=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
FOLDER=.venv/axe
[ -f "$FOLDER/package/axe.min.js" ] && [ "$(cat "$FOLDER/version" 2>/dev/null)" = "$VERSION" ] && exit 0
mkdir -p "$FOLDER"
npm pack --silent --pack-destination "$FOLDER" "axe-core@$VERSION"
echo "$SHA256  $FOLDER/axe-core-$VERSION.tgz" | sha256sum --check --quiet
tar -xzf "$FOLDER/axe-core-$VERSION.tgz" -C "$FOLDER" package/axe.min.js package/LICENSE
echo "$VERSION" > "$FOLDER/version"
