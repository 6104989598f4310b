/** xmlsec1 (https://www.aleksey.com/xmlsec/), which reads, canonicalises and verifies XML by libxml2 and OpenSSL: no code of Deputy's or of its libraries. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const PROGRAM = '/usr/bin/xmlsec1'
const run = promisify(execFile)

export const findXmlsec = (): boolean => {
  const found = existsSync(PROGRAM)
  if (!found) process.stderr.write('\n*** SKIPPED: the tests that need xmlsec1. Install the package `xmlsec1`. ***\n\n')
  return found
}

/** Whether the signature of a SAML assertion is that of the certificate's key (PEM). */
export const verifies = async (assertion: string, certificate: string): Promise<boolean> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-test-'))
  const [xml, pem] = [join(folder, 'assertion.xml'), join(folder, 'certificate.pem')]
  try {
    await Promise.all([writeFile(xml, assertion), writeFile(pem, certificate)])
    return await run(
      PROGRAM,
      [
        '--verify',
        '--id-attr:ID',
        'urn:oasis:names:tc:SAML:2.0:assertion:Assertion',
        '--enabled-key-data',
        'x509,rsa',
        '--pubkey-cert-pem',
        pem,
        xml,
      ],
      { timeout: 10_000 },
    ).then(
      () => true,
      () => false,
    )
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
