import { z } from 'zod'

/** The files of a connection with TLS. */
export const tlsFilesSchema = z
  .strictObject({
    ca: z.string().min(1).optional().describe('PEM file with the certificate authority; absent: those of the system.'),
    certificate: z
      .string()
      .min(1)
      .optional()
      .describe('PEM file with the certificate that the daemon presents, with its chain.'),
    key: z.string().min(1).optional().describe('PEM file of mode 0600 with the key of the certificate.'),
  })
  .refine(
    ({ certificate, key }) => (certificate === undefined) === (key === undefined),
    'certificate and key belong together: write both or neither',
  )
  .refine(
    ({ ca, certificate }) => ca !== undefined || certificate !== undefined,
    'name a ca, or a certificate and its key; write `true` for the certificates of the system only',
  )

/**
 * TLS to a server that may ask for a certificate of the daemon: Redis does by default (`tls-auth-clients yes`),
 * Postgres where pg_hba.conf says `cert` or `clientcert`.
 */
export const clientTlsSchema = z
  .union([z.boolean(), tlsFilesSchema])
  .default(true)
  .describe(
    'TLS with the certificates of the system or of a PEM file, and with a client certificate if the server asks for one; false only for a server on this machine.',
  )
