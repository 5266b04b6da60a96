package tlsopts_test

import (
	"fmt"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func ExampleParseCiphers() {
	list, err := tlsopts.ParseCiphers("ECDHE+AESGCM:DHE+AESGCM:AES256-SHA:!ECDSA")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(list)
	for _, note := range list.Notes {
		fmt.Println(note)
	}

	_, err = tlsopts.ParseCiphers("ECDHE+AESGMC")
	fmt.Println(err)
	// Output:
	// ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA
	// DHE+AESGCM: passed over, Go has none of these suites
	// AES256-SHA: weak, no forward secrecy: whoever gets the key can read recorded sessions (RFC 9325 section 4.1)
	// "AESGMC" is not the name of a cipher suite or keyword: did you mean "AESGCM"?
}
