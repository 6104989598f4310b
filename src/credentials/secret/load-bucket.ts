/** The client of S3 is loaded where a bucket is configured, and nowhere else. */
export const loadBucket = () => import('./aws/bucket.ts')
