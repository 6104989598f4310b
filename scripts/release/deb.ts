/** A Debian package: the daemon with the Node that it needs, the unit, its user and its folders. */
import { chmod, cp, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { copyClosure } from './closure.ts'
import { makeDaemon, UNBUNDLED_PACKAGES } from './daemon.ts'
import { manifest, ROOT, run, sourceEpoch } from './folders.ts'

const LIB = 'usr/lib/deputy'

/** `deputy` on the path, by the Node of the package. The configuration of the service is the default home. */
const COMMAND = `#!/bin/sh
DEPUTY_HOME="\${DEPUTY_HOME:-/etc/deputy}"
export DEPUTY_HOME
exec /${LIB}/bin/node /${LIB}/dist/cli/main.js "$@"
`

/** The first time: the user, the folders and a configuration. An update leaves what is there, and starts the daemon again where it ran. */
const AFTER_INSTALL = `#!/bin/sh
set -e
if [ "$1" = configure ]; then
  systemd-sysusers deputy.conf
  systemd-tmpfiles --create deputy.conf
  if [ ! -e /etc/deputy/deputy.yaml ]; then
    /usr/bin/deputy init --no-input /etc/deputy > /dev/null
    install -o deputy -g deputy -m 0600 /etc/deputy/state/kek /var/lib/deputy/kek
    rm -r /etc/deputy/state
    sed "s/socket_group: .*/socket_group: $(getent group deputy-clients | cut -d: -f3)/" /${LIB}/deploy/systemd/deputy.yaml > /etc/deputy/deputy.yaml
    chown -R root:deputy /etc/deputy
    chmod -R u=rwX,g=rX,o= /etc/deputy
    echo "Set issuer and connect_url in /etc/deputy/deputy.yaml, then: systemctl enable --now deputy"
  fi
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart deputy.service
  fi
fi
`

const BEFORE_REMOVAL = `#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl disable --now deputy.service > /dev/null 2>&1 || true
fi
`

/** Keys and the audit log are not removed with the program, also not by purge: nothing brings them back. */
const AFTER_REMOVAL = `#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
if [ "$1" = purge ]; then
  echo "/etc/deputy and /var/lib/deputy are left: they hold keys and the audit log. Remove them yourself."
fi
`

const control = (size: number, architecture: string): string => `Package: deputy
Version: ${manifest.version}
Architecture: ${architecture}
Maintainer: The Deputy authors <deputy@localhost>
Installed-Size: ${Math.ceil(size / 1024)}
Depends: libc6 (>= 2.28), libstdc++6, libatomic1, systemd (>= 247)
Section: net
Priority: optional
Description: ${manifest.description}
 Runs beside MCP servers and gives them scoped, short-lived credentials of their
 users: OAuth 2.1 and token exchange, secrets of vaults, rotation, audit.
`

/** @returns the package. @throws Error where dpkg-deb is missing */
export const buildDeb = async (folder: string, out: string): Promise<string> => {
  const lib = join(folder, LIB)
  await mkdir(lib, { recursive: true })
  await makeDaemon(lib)
  await copyClosure(UNBUNDLED_PACKAGES, lib)
  await mkdir(join(lib, 'bin'), { recursive: true })
  await cp(process.execPath, join(lib, 'bin/node'))
  const place = async (from: string, to: string): Promise<void> => {
    await mkdir(join(folder, to, '..'), { recursive: true })
    await cp(join(ROOT, from), join(folder, to))
  }
  await place('deploy/systemd/sysusers.d/deputy.conf', 'usr/lib/sysusers.d/deputy.conf')
  await place('deploy/systemd/tmpfiles.d/deputy.conf', 'usr/lib/tmpfiles.d/deputy.conf')
  const unit = (await readFile(join(ROOT, 'deploy/systemd/deputy.service'), 'utf8')).replaceAll(
    '/usr/bin/node /usr/lib/deputy/',
    `/${LIB}/bin/node /${LIB}/`,
  )
  await mkdir(join(folder, 'lib/systemd/system'), { recursive: true })
  await writeFile(join(folder, 'lib/systemd/system/deputy.service'), unit)
  await mkdir(join(folder, 'usr/bin'))
  await writeFile(join(folder, 'usr/bin/deputy'), COMMAND)
  await mkdir(join(folder, 'usr/share/doc/deputy'), { recursive: true })
  await rename(join(lib, 'THIRD-PARTY.txt'), join(folder, 'usr/share/doc/deputy/copyright'))
  await mkdir(join(folder, 'DEBIAN'))
  const architecture = run('dpkg', ['--print-architecture']).trim()
  const [size] = run('du', ['-sb', folder]).split('\t')
  await writeFile(join(folder, 'DEBIAN/control'), control(Number(size), architecture))
  for (const [name, script] of Object.entries({
    postinst: AFTER_INSTALL,
    prerm: BEFORE_REMOVAL,
    postrm: AFTER_REMOVAL,
  }))
    await writeFile(join(folder, 'DEBIAN', name), script, { mode: 0o755 })
  run('chmod', ['-R', 'u=rwX,go=rX', folder])
  await chmod(join(folder, 'usr/bin/deputy'), 0o755)
  const file = join(out, `deputy_${manifest.version}_${architecture}.deb`)
  run('dpkg-deb', ['--root-owner-group', '-Zxz', '-z6', '--build', folder, file], {
    environment: { SOURCE_DATE_EPOCH: sourceEpoch() },
  })
  return file
}
