/* No chip: exports nothing. For device_test. */
typedef int hadal_nothing;
